//! The run as the page knows it: device, data, networks, curves, the checkpoint to continue from.
//!
//! The worker holds the networks. This holds what is needed to show them and to start anew in another worker: the recipe,
//! the files that were chosen, and the last checkpoint. At most one thing that changes the networks is under way
//! (`State::changing`); what a person asks for meanwhile is refused by disabled buttons.
//!
//! No run is lost in silence: the last checkpoint goes into the browser's storage as it comes, a run that another takes the
//! place of can be brought back, and a worker that has fallen silent is noticed.

use std::cell::{Cell, RefCell};

use js_sys::ArrayBuffer;
use potstill_protocol::{
    Answer, Command, DataChoice, DevicePreference, DeviceReport, DistilRecipe, Evaluation, Event, History, Model,
    SampleNote, StopReason, TeacherChoice,
};

use crate::address::Before;
use crate::worker::Client;
use crate::{dom, files, notice, shelf, store, words};

/// After so many lost workers the page stops trying: something else is wrong.
const MOST_RESTARTS: u32 = 4;
/// After so many lost workers the CPU is asked for: a GPU that is lost again and again is of no use.
const RESTARTS_ON_GPU: u32 = 2;

/// After so many seconds without a word from a worker that should have something to say, the person is told.
const PATIENCE: f64 = 30.0;
/// Where the browser keeps which device passed the worker's test.
const TESTED: &str = "tested";

/// The data set in use.
#[derive(Clone)]
pub struct Data {
    /// Which.
    pub choice: DataChoice,
    /// Held-out samples.
    pub held_out: u32,
    /// One a class.
    pub class_names: Vec<String>,
}

/// The networks in use.
pub struct Prepared {
    /// What is trained.
    pub recipe: DistilRecipe,
    /// Steps taken.
    pub step: u32,
    /// All curves.
    pub history: History,
}

/// A run that is not in use and can be brought back.
#[derive(Clone)]
pub struct Aside {
    /// For the person.
    pub name: String,
    /// In the browser's storage, or here.
    pub from: Source,
}

/// Where a run comes from.
#[derive(Clone)]
pub enum Source {
    /// Kept in the browser's storage.
    Kept(store::Kept),
    /// A snapshot, and the moment when it began.
    Here(ArrayBuffer, String),
}

/// All that is known.
#[derive(Default)]
pub struct State {
    /// Once it is chosen.
    pub device: Option<DeviceReport>,
    /// Once it is there.
    pub data: Option<Data>,
    /// Once they are there.
    pub prepared: Option<Prepared>,
    /// Of the networks as they were when it was asked for.
    pub evaluation: Option<Evaluation>,
    /// Whether the worker trains.
    pub running: bool,
    /// Whether training ended by a failure. That of a lost device may be told before the loss itself.
    failed: bool,
    /// Whether networks or data are being made ready.
    pub changing: bool,
    /// Whether a hidden tab paused the run.
    pub paused_by_hiding: bool,
    /// Training samples of MNIST; read anew for each worker.
    mnist: Vec<web_sys::File>,
    /// Whether the worker has not read them yet.
    mnist_unread: bool,
    checkpoint: Option<(u32, ArrayBuffer)>,
    /// The moment when the run began, which its copies in the browser's storage are known by.
    began: String,
    /// The run before this one.
    pub aside: Option<Aside>,
    /// When training was last started, in milliseconds, and the student's step then.
    pub started: (f64, u32),
    teacher: Option<ArrayBuffer>,
    restarts: u32,
}

/// What the views hear of.
pub enum Change {
    /// What is possible now: whether the worker trains, or something is being made ready.
    State,
    /// Another data set.
    Data,
    /// Other networks.
    Networks,
    /// The worker trained on; the fields are those of [`Event::Progress`].
    Progress { phase: Model, step: u32, steps_per_second: f32, images_per_second: f32 },
    /// Held-out samples were looked at: a few of them with their pixels, 784 bytes each.
    Checked(Vec<SampleNote>, Vec<u8>),
    /// Training stopped.
    Stopped(StopReason),
    /// The browser keeps other runs than before.
    Kept,
    /// Another worker.
    Worker,
}

/// The page's one run and its worker.
pub struct Run {
    /// The worker.
    pub client: Client,
    /// What is known. Never borrowed across an `await`.
    pub state: RefCell<State>,
    /// The recipe that the form showed when it last made sense.
    pub wanted: RefCell<DistilRecipe>,
    listeners: RefCell<Vec<fn(&Change)>>,
    preference: DevicePreference,
    fault: Cell<Option<potstill_protocol::Fault>>,
    patience: f64,
}

thread_local! {
    static RUN: Cell<Option<&'static Run>> = const { Cell::new(None) };
}

/// The page's run; it exists from the start on.
pub fn run() -> &'static Run {
    RUN.get().expect("made before anything uses it")
}

/// Makes the run, for a worker that is still to be opened.
pub fn start(before: &Before) {
    let run = Box::new(Run {
        client: Client::new(|event, buffers| run().hear(event, buffers)),
        state: RefCell::default(),
        wanted: RefCell::default(),
        listeners: RefCell::default(),
        preference: before.device,
        fault: Cell::new(before.fault),
        patience: before.patience.unwrap_or(PATIENCE),
    });
    RUN.set(Some(Box::leak(run)));
}

/// Runs a task; what goes wrong is shown.
pub fn spawn(task: impl Future<Output = Result<(), String>> + 'static) {
    wasm_bindgen_futures::spawn_local(async move {
        match task.await {
            Ok(()) => {}
            // The person was told already.
            Err(problem) if problem.is_empty() => notice::idle(),
            Err(problem) => {
                notice::idle();
                notice::tell(&sentence(&problem));
            }
        }
    });
}

/// With a capital, unless it starts with a file's name.
fn sentence(text: &str) -> String {
    if !text.split(' ').next().is_some_and(|word| word.chars().all(char::is_alphabetic)) {
        return text.to_owned();
    }
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

fn unexpected() -> String {
    "the page's parts do not understand each other; reload the page".to_owned()
}

fn now() -> f64 {
    js_sys::Date::now()
}

impl Run {
    /// Calls `listener` at each change, after the listeners before it.
    pub fn listen(&self, listener: fn(&Change)) {
        self.listeners.borrow_mut().push(listener);
    }

    /// Tells all views of a change. The state must not be borrowed meanwhile.
    pub fn tell(&self, change: &Change) {
        let listeners = self.listeners.borrow().clone();
        listeners.iter().for_each(|listener| listener(change));
    }

    /// Starts a worker and lets it choose a device.
    pub async fn open(&'static self) -> Result<(), String> {
        self.client.start()?;
        let device =
            if self.state.borrow().restarts > RESTARTS_ON_GPU { DevicePreference::Cpu } else { self.preference };
        // A fault made on purpose happens once.
        let command = Command::Open { device, fault: self.fault.take(), tested: dom::kept(TESTED) };
        match self.client.ask(command, Vec::new()).await? {
            (Answer::Device(report), _) => {
                notice::idle();
                if let Some(tested) = &report.tested {
                    dom::keep(TESTED, tested);
                }
                self.state.borrow_mut().device = Some(report);
                self.show_device();
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    fn show_device(&self) {
        let state = self.state.borrow();
        let text = match &state.device {
            Some(device) => format!("{}. {}", device.name.trim_end_matches('.'), sentence(&device.reason)),
            None => "starting …".to_owned(),
        };
        dom::text(&dom::by_id("device"), &text);
    }

    /// Makes the data set ready unless it is.
    async fn need_data(&self, choice: DataChoice) -> Result<(), String> {
        let unread = choice == DataChoice::Mnist && self.state.borrow().mnist_unread;
        if !unread && self.state.borrow().data.as_ref().is_some_and(|data| data.choice == choice) {
            return Ok(());
        }
        let (mut names, mut buffers) = (Vec::new(), Vec::new());
        if choice == DataChoice::Mnist {
            let chosen = self.state.borrow().mnist.clone();
            if chosen.is_empty() {
                return Err("choose MNIST's four files first, under “Advanced”".to_owned());
            }
            for file in &chosen {
                names.push(file.name());
                buffers.push(files::read(file, files::LARGEST_DATA).await?);
            }
        }
        match self.client.ask(Command::Data { data: choice, names }, buffers).await? {
            (Answer::Data { held_out, class_names, .. }, _) => {
                {
                    let mut state = self.state.borrow_mut();
                    if choice == DataChoice::Mnist {
                        state.mnist_unread = false;
                    }
                    // The worker forgets networks that learnt from other data. A new worker has none, and gets them back.
                    if state.data.replace(Data { choice, held_out, class_names }).is_some() {
                        (state.prepared, state.evaluation, state.running) = (None, None, false);
                    }
                }
                self.tell(&Change::Data);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    /// Takes other files, which are read when they are next needed.
    pub fn choose_mnist(&self, chosen: Vec<web_sys::File>) {
        let mut state = self.state.borrow_mut();
        (state.mnist, state.mnist_unread) = (chosen, true);
    }

    /// A copy of the shipped teacher where it is taken, to be sent.
    async fn teacher(&self, choice: TeacherChoice) -> Result<Vec<ArrayBuffer>, String> {
        if choice == TeacherChoice::Live {
            return Ok(Vec::new());
        }
        let kept = self.state.borrow().teacher.clone();
        let weights = match kept {
            Some(weights) => weights,
            None => {
                let file = shelf::shelf().await?.teacher;
                let weights = files::fetch(&file, "the teacher", files::LARGEST_WEIGHTS).await?;
                self.state.borrow_mut().teacher = Some(weights.clone());
                weights
            }
        };
        Ok(vec![files::copy(&weights)])
    }

    /// Makes new networks for a recipe.
    pub async fn prepare(&self, recipe: &DistilRecipe) -> Result<(), String> {
        self.need_data(recipe.data).await?;
        let buffers = self.teacher(recipe.teacher).await?;
        let aside = self.to_put_aside();
        let answered = self.client.ask(Command::Prepare { recipe: Box::new(recipe.clone()) }, buffers).await?;
        self.state.borrow_mut().checkpoint = None;
        self.take_the_place_of(aside, now().to_string());
        self.take_prepared(answered.0)
    }

    // The run in use, as far as it would be a loss.
    fn to_put_aside(&self) -> Option<Aside> {
        let state = self.state.borrow();
        let prepared = state.prepared.as_ref().filter(|prepared| prepared.step > 0)?;
        let (step, snapshot) = state.checkpoint.as_ref()?;
        let name = format!("{}, step {step} of {}", words::title(&prepared.recipe), prepared.recipe.steps);
        Some(Aside { name, from: Source::Here(snapshot.clone(), state.began.clone()) })
    }

    // Another run is in use, which began at that moment.
    fn take_the_place_of(&self, aside: Option<Aside>, began: String) {
        let mut state = self.state.borrow_mut();
        state.aside = aside.or(state.aside.take());
        state.began = began;
    }

    /// Takes a run in use that is not: a file's, or one that was put aside.
    pub async fn bring(&self, name: &str, source: Source) -> Result<(), String> {
        let (snapshot, began) = match source {
            Source::Here(snapshot, began) => (snapshot, began),
            Source::Kept(kept) => (store::get(&kept.key).await?, kept.began.unwrap_or_default()),
        };
        let began = if began.is_empty() { now().to_string() } else { began };
        self.change(async || {
            if self.state.borrow().running {
                self.pause().await?;
            }
            let aside = self.to_put_aside();
            self.restore(&snapshot).await.map_err(|problem| format!("{name}: {problem}"))?;
            self.state.borrow_mut().aside = None;
            self.take_the_place_of(aside, began);
            Ok(())
        })
        .await
    }

    /// Offers the newest run that the browser kept, as long as there is no other to offer.
    pub async fn offer_kept(&self) -> Result<(), String> {
        let newest = store::list().await?.into_iter().filter(|kept| kept.began.is_some()).next_back();
        let mut state = self.state.borrow_mut();
        if let (None, None, Some(kept)) = (&state.aside, &state.prepared, newest) {
            state.aside = Some(Aside { name: kept.name.clone(), from: Source::Kept(kept) });
        }
        drop(state);
        self.tell(&Change::State);
        Ok(())
    }

    /// Continues from a snapshot.
    pub async fn restore(&self, snapshot: &ArrayBuffer) -> Result<(), String> {
        let recipe = recipe_of(&files::bytes(snapshot))?;
        self.need_data(recipe.data).await?;
        let mut buffers = vec![files::copy(snapshot)];
        buffers.extend(self.teacher(recipe.teacher).await?);
        let answered = self.client.ask(Command::Restore, buffers).await?;
        self.take_prepared(answered.0)?;
        let mut state = self.state.borrow_mut();
        let step = state.prepared.as_ref().map_or(0, |prepared| prepared.step);
        state.checkpoint = Some((step, snapshot.clone()));
        Ok(())
    }

    fn take_prepared(&self, answer: Answer) -> Result<(), String> {
        let Answer::Prepared { recipe, step, history, .. } = answer else { return Err(unexpected()) };
        {
            let mut state = self.state.borrow_mut();
            state.prepared = Some(Prepared { recipe: *recipe, step, history: *history });
            state.evaluation = None;
            (state.running, state.failed) = (false, false);
        }
        notice::idle();
        self.tell(&Change::Networks);
        Ok(())
    }

    /// Makes networks ready for looking at them, unless there are some.
    pub async fn need_networks(&self) -> Result<(), String> {
        // Whoever comes second waits for the first.
        while self.state.borrow().changing {
            dom::sleep(100).await;
        }
        if self.state.borrow().prepared.is_some() {
            return Ok(());
        }
        let recipe = self.wanted.borrow().clone();
        self.change(async || self.prepare(&recipe).await).await
    }

    /// Does something that changes the networks, with buttons disabled meanwhile.
    pub async fn change(&self, task: impl AsyncFnOnce() -> Result<(), String>) -> Result<(), String> {
        if std::mem::replace(&mut self.state.borrow_mut().changing, true) {
            return Err("something else is being made ready; try again when it is done".to_owned());
        }
        self.tell(&Change::State);
        let done = task().await;
        self.state.borrow_mut().changing = false;
        notice::idle();
        self.tell(&Change::State);
        done
    }

    /// Goes on training, `steps` or to the end.
    pub async fn train(&self, steps: Option<u32>) -> Result<(), String> {
        {
            let mut state = self.state.borrow_mut();
            (state.running, state.failed) = (true, false);
            let step = state.prepared.as_ref().map_or(0, |prepared| prepared.step);
            state.started = (now(), step);
        }
        self.tell(&Change::State);
        let asked = self.client.ask(Command::Run { steps }, Vec::new()).await;
        if let Err(problem) = asked {
            self.state.borrow_mut().running = false;
            self.tell(&Change::State);
            return Err(problem);
        }
        Ok(())
    }

    /// Stops after the step under way.
    pub async fn pause(&self) -> Result<(), String> {
        self.client.ask(Command::Pause, Vec::new()).await.map(drop)
    }

    /// The run as a file.
    pub async fn snapshot(&self) -> Result<(u32, ArrayBuffer), String> {
        match self.client.ask(Command::Snapshot, Vec::new()).await? {
            (Answer::Snapshot { step }, buffers) => {
                let buffer = buffers.into_iter().next().ok_or("the worker sent no file")?;
                Ok((step, buffer))
            }
            _ => Err(unexpected()),
        }
    }

    /// Measures all three networks.
    pub async fn evaluate(&self) -> Result<(), String> {
        match self.client.ask(Command::Evaluate, Vec::new()).await? {
            (Answer::Evaluation(evaluation), _) => {
                notice::idle();
                self.state.borrow_mut().evaluation = Some(*evaluation);
                Ok(())
            }
            _ => Err(unexpected()),
        }
    }

    fn hear(&'static self, event: Event, buffers: Vec<ArrayBuffer>) {
        match event {
            Event::Ready => {}
            Event::Busy { what, fraction } => notice::busy(&what, fraction.map(f64::from)),
            Event::Progress { phase, step, steps_per_second, images_per_second, history } => {
                notice::idle();
                {
                    let mut state = self.state.borrow_mut();
                    state.evaluation = None;
                    if let Some(prepared) = state.prepared.as_mut() {
                        if phase != Model::Teacher {
                            prepared.step = step;
                        }
                        prepared.history.extend(*history);
                    }
                }
                self.tell(&Change::Progress { phase, step, steps_per_second, images_per_second });
            }
            Event::Stopped { step, reason } => {
                notice::idle();
                {
                    let mut state = self.state.borrow_mut();
                    (state.running, state.failed) = (false, matches!(reason, StopReason::Failed(_)));
                    if let Some(prepared) = state.prepared.as_mut() {
                        prepared.step = step;
                    }
                }
                if let StopReason::Failed(problem) = &reason {
                    notice::tell(&sentence(problem));
                }
                self.tell(&Change::Stopped(reason));
            }
            Event::Checked { samples, .. } => {
                let pixels = buffers.first().map(files::bytes).unwrap_or_default();
                self.tell(&Change::Checked(samples, pixels));
            }
            Event::Checkpoint { step } => {
                if let Some(buffer) = buffers.into_iter().next() {
                    self.state.borrow_mut().checkpoint = Some((step, buffer.clone()));
                    self.keep(step, buffer);
                }
            }
            Event::Unloaded { message } => self.unloaded(&message),
            Event::DeviceLost { message } => {
                let said = format!("The graphics device was lost ({message})");
                spawn(self.recover(said, true));
            }
            Event::Broken { message } => {
                let said = format!("The computing stopped: {message}");
                spawn(self.recover(said, false));
            }
        }
    }

    // Keeps the run in the browser as it goes.
    fn keep(&'static self, step: u32, snapshot: ArrayBuffer) {
        let (began, name) = {
            let state = self.state.borrow();
            let Some(prepared) = &state.prepared else { return };
            let live = prepared.recipe.teacher == TeacherChoice::Live;
            if step == 0 && !live {
                return;
            }
            (state.began.clone(), name_of(&prepared.recipe, step))
        };
        wasm_bindgen_futures::spawn_local(async move {
            // A browser without storage keeps nothing, as its person knows.
            if store::put_by_itself(&began, &name, &snapshot).await.is_ok() {
                self.tell(&Change::Kept);
            }
        });
    }

    // The worker's program did not arrive.
    fn unloaded(&'static self, message: &str) {
        self.client.end("");
        self.state.borrow_mut().running = false;
        notice::idle();
        self.tell(&Change::State);
        let said = format!("The program that computes could not be fetched ({message}). Is the network there?");
        notice::offer(&said, "Try again", || {
            spawn(async {
                run().change(async || run().open_again().await.map(drop)).await?;
                run().tell(&Change::Worker);
                Ok(())
            });
        });
    }

    /// Notices a worker that has fallen silent, for as long as the page lives.
    pub async fn watch(&'static self) {
        const SILENT: &str =
            "The computing has given no sign of life for a while. It may be at a long step, or it may have ended.";
        loop {
            dom::sleep(1000).await;
            let expected = self.state.borrow().running || self.client.is_awaited();
            if expected && self.client.silence() > self.patience {
                notice::offer(SILENT, "Start it anew", || {
                    spawn(run().recover("The computing was started anew".to_owned(), true));
                });
            } else {
                notice::withdraw(SILENT);
            }
        }
    }

    // Opens a worker and gives it the run as it was last known: where it goes on from, if there is one.
    async fn open_again(&'static self) -> Result<Option<u32>, String> {
        let (recipe, checkpoint) = {
            let state = self.state.borrow();
            (state.prepared.as_ref().map(|prepared| prepared.recipe.clone()), state.checkpoint.clone())
        };
        self.open().await?;
        let Some(recipe) = recipe else { return Ok(None) };
        match checkpoint {
            Some((step, snapshot)) => {
                self.restore(&snapshot).await?;
                Ok(Some(step))
            }
            None => {
                self.prepare(&recipe).await?;
                Ok(Some(0))
            }
        }
    }

    /// Ends the worker and continues in another one from the last checkpoint.
    async fn recover(&'static self, said: String, go_on: bool) -> Result<(), String> {
        let was_running = {
            let mut state = self.state.borrow_mut();
            state.restarts += 1;
            let was_running = state.running || state.failed;
            (state.running, state.failed) = (false, false);
            state.device = None;
            state.data = None;
            was_running
        };
        self.client.end("");
        self.show_device();
        self.tell(&Change::State);
        if self.state.borrow().restarts > MOST_RESTARTS {
            return Err(format!(
                "{said}. This happened {MOST_RESTARTS} times; reload the page, or add ?device=cpu to its address"
            ));
        }
        // What was being made ready ends with its worker.
        while self.state.borrow().changing {
            dom::sleep(20).await;
        }
        let mut from = "There was no run to continue".to_owned();
        self.change(async || {
            if let Some(step) = self.open_again().await? {
                from = format!("The run continues from step {step}");
            }
            Ok(())
        })
        .await?;
        let device = self.state.borrow().device.as_ref().map(|device| device.name.clone()).unwrap_or_default();
        notice::tell(&format!("{said}. {from}, on {device}."));
        self.tell(&Change::Worker);
        if go_on && was_running {
            self.train(None).await?;
        }
        Ok(())
    }

    /// For tests: destroys the device.
    pub async fn lose_device(&self) -> Result<(), String> {
        self.client.ask(Command::LoseDevice, Vec::new()).await.map(drop)
    }

    /// The name of a class of the data set.
    pub fn class_name(&self, class: u32) -> String {
        let state = self.state.borrow();
        let name = state.data.as_ref().and_then(|data| data.class_names.get(class as usize).cloned());
        name.unwrap_or_else(|| class.to_string())
    }
}

/// The recipe in a snapshot's metadata. The worker checks the rest of the file; this only looks for what to make ready.
fn recipe_of(snapshot: &[u8]) -> Result<DistilRecipe, String> {
    let bad = || "the file is not a run that this page saved: it has no recipe".to_owned();
    let length = snapshot.first_chunk().map(|length| u64::from_le_bytes(*length)).ok_or_else(bad)?;
    let header = usize::try_from(length).ok().and_then(|length| snapshot.get(8..)?.get(..length)).ok_or_else(bad)?;
    let header: serde_json::Value = serde_json::from_slice(header).map_err(|_| bad())?;
    let run = header["__metadata__"]["potstill.run"].as_str().ok_or_else(bad)?;
    let run: serde_json::Value = serde_json::from_str(run).map_err(|_| bad())?;
    serde_json::from_value(run["recipe"].clone())
        .map_err(|error| format!("the file's recipe is not understood: {error}"))
}

/// How a run is called in storage.
pub fn name_of(recipe: &DistilRecipe, step: u32) -> String {
    let now = js_sys::Date::new_0();
    let time = now.to_locale_string("en-GB", &wasm_bindgen::JsValue::UNDEFINED);
    format!("{}, step {step} of {}, {}", words::title(recipe), recipe.steps, String::from(time))
}

/// A size for the person.
pub fn size_text(buffer: &ArrayBuffer) -> String {
    words::bytes(f64::from(buffer.byte_length()))
}
