//! The worker in a browser: messages become commands, and what the session says becomes messages.
//!
//! One loop drives the session. While training goes on it takes a chunk of steps, lets the browser deliver messages, does
//! what they ask for, and takes the next chunk. What cannot wait for it goes past it: news of a lost device, and a panic.

use std::cell::RefCell;
use std::collections::VecDeque;

use js_sys::{Array, ArrayBuffer, Function, Promise, Uint8Array};
use potstill_web::protocol::{Answer, Command, Event, FromWorker, Reply, Request};
use potstill_web::session::{Buffers, Session};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{DedicatedWorkerGlobalScope, MessageChannel, MessageEvent};

use crate::device::{self, Opened};

/// A file larger than this is not even copied into WebAssembly's heap, which ends at 4 GiB.
const MOST_BYTES: u32 = 512 << 20;

thread_local! {
    static INBOX: RefCell<VecDeque<(Request, Buffers)>> = const { RefCell::new(VecDeque::new()) };
    // Wakes the loop where it waits for a message.
    static WAKE: RefCell<Option<Function>> = const { RefCell::new(None) };
}

fn scope() -> DedicatedWorkerGlobalScope {
    js_sys::global().unchecked_into()
}

/// Sends a message to the page.
pub fn post(message: &FromWorker, buffers: Buffers) {
    let text = serde_json::to_string(message).expect("a message is plain JSON");
    let (parts, moved) = (Array::of1(&text.into()), Array::new());
    for buffer in buffers {
        let buffer = Uint8Array::from(buffer.as_slice()).buffer();
        parts.push(&buffer);
        moved.push(&buffer);
    }
    if let Err(error) = scope().post_message_with_transfer(&parts, &moved) {
        web_sys::console::error_1(&error);
    }
}

/// Sends news.
pub fn tell(event: Event) {
    post(&FromWorker::Event(event), Vec::new());
}

fn reply(id: u32, result: Result<(Answer, Buffers), String>) {
    let (result, buffers) = match result {
        Ok((answer, buffers)) => (Ok(answer), buffers),
        Err(reason) => (Err(reason), Vec::new()),
    };
    post(&FromWorker::Reply(Reply { id, result }), buffers);
}

/// Milliseconds since the worker began.
fn milliseconds() -> f64 {
    scope().performance().map_or(0.0, |performance| performance.now())
}

/// Listens, and drives a session for as long as the worker lives.
pub fn start() {
    std::panic::set_hook(Box::new(|panic| {
        web_sys::console::error_1(&panic.to_string().into());
        let message = format!("the computation failed ({panic}); load the last saved run, or open the page anew");
        tell(Event::Broken { message: message.replace('\n', " ") });
    }));
    device::watch_log();
    let receive = Closure::<dyn FnMut(MessageEvent)>::new(|event: MessageEvent| receive(&event));
    scope().set_onmessage(Some(receive.as_ref().unchecked_ref()));
    // Listens for as long as the worker lives.
    receive.forget();
    wasm_bindgen_futures::spawn_local(drive());
    tell(Event::Ready);
}

fn receive(event: &MessageEvent) {
    let parts: Array = event.data().unchecked_into();
    let text = parts.get(0).as_string().unwrap_or_default();
    let request: Request = match serde_json::from_str(&text) {
        Ok(request) => request,
        Err(error) => return web_sys::console::error_2(&"not a request:".into(), &error.to_string().into()),
    };
    let buffers: Vec<ArrayBuffer> = parts.iter().skip(1).map(JsCast::unchecked_into).collect();
    if let Some(large) = buffers.iter().find(|buffer| buffer.byte_length() > MOST_BYTES) {
        let (bytes, most) = (large.byte_length(), MOST_BYTES >> 20);
        return reply(request.id, Err(format!("the file has {bytes} bytes; files up to {most} MiB are read here")));
    }
    // This is about what happens in the middle of a step, so it does not wait for its end.
    if matches!(request.command, Command::LoseDevice) {
        let destroyed = device::destroy().then(|| (Answer::Done, Vec::new()));
        return reply(request.id, destroyed.ok_or_else(|| "there is no GPU device to lose".into()));
    }
    let buffers = buffers.iter().map(|buffer| Uint8Array::new(buffer).to_vec()).collect();
    INBOX.with_borrow_mut(|inbox| inbox.push_back((request, buffers)));
    if let Some(wake) = WAKE.take() {
        // The function resolves a promise, which throws nothing.
        wake.call0(&JsValue::NULL).ok();
    }
}

async fn drive() {
    let mut session: Option<Session> = None;
    let turn = Turn::new();
    loop {
        match (INBOX.with_borrow_mut(VecDeque::pop_front), &mut session) {
            (Some((Request { id, command: Command::Open { device, fault, tested } }, _)), None) => {
                let Opened { device, report } = device::open(device, fault, tested).await;
                session = Some(Session::new(device, milliseconds));
                reply(id, Ok((Answer::Device(report), Vec::new())));
            }
            (Some((Request { id, .. }, _)), None) => reply(id, Err("no device is open yet".into())),
            (Some((Request { id, command }, buffers)), Some(session)) => {
                let mut news = |event, buffers| post(&FromWorker::Event(event), buffers);
                let answer = session.handle(command, buffers, &mut news).await;
                reply(id, answer);
            }
            (None, Some(session)) if session.is_running() => {
                session.advance(&mut |event, buffers| post(&FromWorker::Event(event), buffers)).await;
                turn.give().await;
            }
            (None, _) => {
                let message = Promise::new(&mut |resolve, _| WAKE.set(Some(resolve)));
                JsFuture::from(message).await.ok();
            }
        }
    }
}

/// Lets the browser do what else is waiting. A promise alone would not: it is resolved before any message is delivered. A
/// timer would, after at least four milliseconds; a message to oneself takes none.
struct Turn {
    channel: MessageChannel,
}

impl Turn {
    fn new() -> Self {
        Self { channel: MessageChannel::new().expect("every worker has channels") }
    }

    async fn give(&self) {
        let arrived = Promise::new(&mut |resolve, _| self.channel.port1().set_onmessage(Some(&resolve)));
        self.channel.port2().post_message(&JsValue::NULL).ok();
        JsFuture::from(arrived).await.ok();
    }
}
