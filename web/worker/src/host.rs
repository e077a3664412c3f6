//! The worker on the host: a line in is a JSON array of a request and the paths of its buffers; a line out is a JSON array
//! of a message and the paths of its buffers, which are written into the folder that the command line names.
//!
//! The device is always the CPU. A run that is started is finished before the next line is read.

use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Instant;

use burn::cubecl::future::block_on;
use burn::tensor::Device;
use potstill_web::protocol::{Answer, Command, DeviceReport, Event, FromWorker, Reply, Request};
use potstill_web::session::{Buffers, Session};

fn milliseconds() -> f64 {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    START.elapsed().as_secs_f64() * 1000.0
}

struct Out {
    folder: PathBuf,
    written: usize,
}

impl Out {
    fn post(&mut self, message: FromWorker, buffers: Buffers) {
        let mut line = vec![serde_json::to_value(message).expect("a message is plain JSON")];
        for buffer in buffers {
            let path = self.folder.join(format!("{:04}.bin", self.written));
            self.written += 1;
            std::fs::write(&path, buffer).unwrap_or_else(|error| fail(&format!("{}: {error}", path.display())));
            line.push(path.to_string_lossy().into_owned().into());
        }
        // Whoever reads may have read enough.
        writeln!(std::io::stdout(), "{}", serde_json::Value::from(line)).unwrap_or_else(|_| std::process::exit(0));
    }
}

fn fail(reason: &str) -> ! {
    eprintln!("error: {reason}");
    std::process::exit(1)
}

fn read(line: &str) -> Result<(Request, Buffers), String> {
    let mut parts: Vec<serde_json::Value> = serde_json::from_str(line).map_err(|error| error.to_string())?;
    if parts.is_empty() {
        return Err("a line is an array of a request and paths".into());
    }
    let paths = parts.split_off(1);
    let request = serde_json::from_value(parts.remove(0)).map_err(|error| error.to_string())?;
    let buffer = |path: &serde_json::Value| {
        let path = path.as_str().ok_or("a buffer is named by its path")?;
        std::fs::read(path).map_err(|error| format!("{path}: {error}"))
    };
    Ok((request, paths.iter().map(buffer).collect::<Result<_, _>>()?))
}

/// Runs until the input ends.
pub fn run() {
    let Some(folder) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("error: name the folder that buffers are written to");
        std::process::exit(2)
    };
    let mut out = Out { folder, written: 0 };
    let mut session = Session::new(Device::flex(), milliseconds);
    out.post(FromWorker::Event(Event::Ready), Vec::new());
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap_or_else(|error| fail(&error.to_string()));
        let (Request { id, command }, buffers) = read(&line).unwrap_or_else(|error| fail(&error));
        let mut news = |event, buffers| out.post(FromWorker::Event(event), buffers);
        let answer = match command {
            Command::Open { .. } => {
                let (name, reason) = ("this computer's processor".into(), "This is the native program.".into());
                Ok((Answer::Device(DeviceReport { gpu: false, name, reason, tested: None }), Vec::new()))
            }
            command => block_on(session.handle(command, buffers, &mut news)),
        };
        let (result, buffers) = match answer {
            Ok((answer, buffers)) => (Ok(answer), buffers),
            Err(reason) => (Err(reason), Vec::new()),
        };
        out.post(FromWorker::Reply(Reply { id, result }), buffers);
        while session.is_running() {
            block_on(session.advance(&mut |event, buffers| out.post(FromWorker::Event(event), buffers)));
        }
    }
}
