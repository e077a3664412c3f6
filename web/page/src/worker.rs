//! The page's end of the protocol: one worker, numbered requests, and answers as futures.
//!
//! Requests made before the worker listens wait in a queue. When a worker is ended, everything that waited for it ends
//! with an error, so nothing on the page waits for ever.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use js_sys::{Array, ArrayBuffer};
use potstill_protocol::{Answer, Command, Event, FromWorker, Reply, Request};
use wasm_bindgen::prelude::*;
use web_sys::{MessageEvent, WorkerOptions, WorkerType};

use crate::dom;

/// An answer and its buffers, or one line for the person.
pub type Answered = Result<(Answer, Vec<ArrayBuffer>), String>;

/// What a future and the reply it waits for share.
#[derive(Default)]
struct Slot {
    answered: Option<Answered>,
    waker: Option<Waker>,
}

/// An answer to come.
pub struct Waiting(Rc<RefCell<Slot>>);

impl Future for Waiting {
    type Output = Answered;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Answered> {
        let mut slot = self.0.borrow_mut();
        match slot.answered.take() {
            Some(answered) => Poll::Ready(answered),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn settle(slot: &Rc<RefCell<Slot>>, answered: Answered) {
    let waker = {
        let mut slot = slot.borrow_mut();
        slot.answered = Some(answered);
        slot.waker.take()
    };
    if let Some(waker) = waker {
        waker.wake();
    }
}

/// The worker in use. `'static`: its listeners refer to it.
pub struct Client {
    worker: RefCell<Option<web_sys::Worker>>,
    /// Counts workers; what an ended one still sends is not heard.
    generation: Cell<u32>,
    listening: Cell<bool>,
    next: Cell<u32>,
    waiting: RefCell<HashMap<u32, Rc<RefCell<Slot>>>>,
    queue: RefCell<Vec<(String, Vec<ArrayBuffer>)>>,
    on_event: fn(Event, Vec<ArrayBuffer>),
    heard_at: Cell<f64>,
}

impl Client {
    /// No worker yet; `on_event` hears all news.
    pub fn new(on_event: fn(Event, Vec<ArrayBuffer>)) -> Self {
        Self {
            worker: RefCell::new(None),
            generation: Cell::new(0),
            listening: Cell::new(false),
            next: Cell::new(1),
            waiting: RefCell::default(),
            queue: RefCell::default(),
            on_event,
            heard_at: Cell::new(0.0),
        }
    }

    /// Ends the worker there is, if any, and starts another.
    pub fn start(&'static self) -> Result<(), String> {
        self.end("the part of the page that computes was started anew");
        self.heard_at.set(js_sys::Date::now());
        let options = WorkerOptions::new();
        options.set_type(WorkerType::Module);
        let worker = web_sys::Worker::new_with_options("./worker-loader.js", &options)
            .map_err(|error| format!("the worker cannot be started: {}", dom::reason(&error)))?;
        let generation = self.generation.get();
        dom::on(&worker, "message", move |event: MessageEvent| {
            if self.generation.get() == generation {
                self.take(event.data());
            }
        });
        dom::on(&worker, "error", move |event: web_sys::Event| {
            event.prevent_default();
            if self.generation.get() == generation {
                // A file of the worker that cannot be fetched is told by an event without a message.
                let message =
                    js_sys::Reflect::get(&event, &"message".into()).ok().and_then(|message| message.as_string());
                let event = match message.filter(|message| !message.is_empty()) {
                    None => Event::Unloaded { message: "a file did not arrive".to_owned() },
                    Some(message) => Event::Broken { message },
                };
                (self.on_event)(event, Vec::new());
            }
        });
        *self.worker.borrow_mut() = Some(worker);
        Ok(())
    }

    /// Ends the worker; what waits for it gets `why`.
    pub fn end(&self, why: &str) {
        if let Some(worker) = self.worker.borrow_mut().take() {
            worker.terminate();
        }
        self.generation.set(self.generation.get() + 1);
        self.listening.set(false);
        self.queue.borrow_mut().clear();
        let waiting: Vec<_> = self.waiting.borrow_mut().drain().collect();
        for (_, slot) in waiting {
            settle(&slot, Err(why.to_owned()));
        }
    }

    /// Seconds since the worker was last heard, or asked for something after a silence in which it had nothing to say.
    pub fn silence(&self) -> f64 {
        (js_sys::Date::now() - self.heard_at.get()) / 1000.0
    }

    /// Whether an answer is awaited.
    pub fn is_awaited(&self) -> bool {
        !self.waiting.borrow().is_empty()
    }

    /// Counts workers: what was asked of another one is of no use now.
    pub fn generation(&self) -> u32 {
        self.generation.get()
    }

    /// Asks the worker; the buffers move to it.
    pub fn ask(&self, command: Command, buffers: Vec<ArrayBuffer>) -> Waiting {
        let slot = Rc::new(RefCell::new(Slot::default()));
        let id = self.next.get();
        self.next.set(id.wrapping_add(1));
        if self.worker.borrow().is_none() {
            settle(&slot, Err("the part of the page that computes is not running; reload the page".to_owned()));
            return Waiting(slot);
        }
        if !self.is_awaited() {
            self.heard_at.set(js_sys::Date::now());
        }
        self.waiting.borrow_mut().insert(id, slot.clone());
        match serde_json::to_string(&Request { id, command }) {
            Ok(text) if self.listening.get() => self.post(&text, buffers),
            Ok(text) => self.queue.borrow_mut().push((text, buffers)),
            Err(error) => settle(&slot, Err(format!("a request that cannot be written: {error}"))),
        }
        Waiting(slot)
    }

    fn post(&self, text: &str, buffers: Vec<ArrayBuffer>) {
        let message = Array::of1(&text.into());
        let transfer = Array::new();
        for buffer in &buffers {
            message.push(buffer);
            transfer.push(buffer);
        }
        if let Some(worker) = self.worker.borrow().as_ref()
            && let Err(error) = worker.post_message_with_transfer(&message, &transfer)
        {
            web_sys::console::error_1(&error);
        }
    }

    fn take(&self, data: JsValue) {
        self.heard_at.set(js_sys::Date::now());
        let parts = Array::from(&data);
        let text = parts.get(0).as_string().unwrap_or_default();
        let buffers = parts.iter().skip(1).filter_map(|part| part.dyn_into().ok()).collect();
        match serde_json::from_str(&text) {
            Ok(FromWorker::Reply(Reply { id, result })) => {
                let slot = self.waiting.borrow_mut().remove(&id);
                if let Some(slot) = slot {
                    settle(&slot, result.map(|answer| (answer, buffers)));
                }
            }
            Ok(FromWorker::Event(Event::Ready)) => {
                self.listening.set(true);
                let queue = std::mem::take(&mut *self.queue.borrow_mut());
                for (text, buffers) in queue {
                    self.post(&text, buffers);
                }
            }
            Ok(FromWorker::Event(event)) => (self.on_event)(event, buffers),
            Err(error) => {
                let problem = format!("not understood from the worker: {error}");
                web_sys::console::error_1(&format!("{problem}: {text}").into());
                // Whoever waits for it must not wait for ever.
                let message: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                let id = message["reply"]["id"].as_u64().map(|id| id as u32);
                let slot = id.and_then(|id| self.waiting.borrow_mut().remove(&id));
                if let Some(slot) = slot {
                    settle(&slot, Err(problem));
                }
            }
        }
    }
}
