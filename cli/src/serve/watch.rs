//! One reader of the engine's events for all who wait for something to happen.

use std::sync::Arc;
use std::sync::mpsc;
use std::sync::mpsc::Receiver;
use std::sync::mpsc::SyncSender;
use std::sync::mpsc::TrySendError;
use std::time::Duration;
use std::time::Instant;

use parking_lot::Mutex;
use runtime::Engine;
use runtime::events::Event;
use runtime::events::EventError;
use runtime::events::EventFilter;

/// How many events a subscriber may leave unread before it is left behind.
const BACKLOG: usize = 4096;

/// How often dead monitors are looked for while somebody waits: burying one is what tells of its container's end.
const ROUND: Duration = Duration::from_secs(1);

/// The reader, which runs while there are subscribers.
#[derive(Debug, Clone, Default)]
pub(super) struct Watch(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    subscribers: Vec<SyncSender<Arc<Event>>>,
    is_running: bool,
}

impl Watch {
    /// Returns everything that happens from now on.
    pub(super) fn subscribe(&self, engine: &Engine) -> Result<Receiver<Arc<Event>>, EventError> {
        let (sender, receiver) = mpsc::sync_channel(BACKLOG);
        let mut state = self.0.lock();
        state.subscribers.push(sender);
        if !state.is_running {
            let events = engine.events(None, None, EventFilter::default())?;
            state.is_running = true;
            let (watch, engine) = (self.clone(), engine.clone());
            std::thread::spawn(move || watch.read(&engine, events));
        }
        Ok(receiver)
    }

    fn read(&self, engine: &Engine, mut events: runtime::events::Events) {
        let mut last_round = Instant::now();
        loop {
            match events.next_event_within(ROUND) {
                Ok(Some(event)) => self.pass_on(&Arc::new(event)),
                Ok(None) => {}
                Err(error) => log::error!("{error}"),
            }
            if last_round.elapsed() < ROUND {
                continue;
            }
            last_round = Instant::now();
            if let Err(error) = engine.bury_the_dead() {
                log::error!("{error}");
            }
            let mut state = self.0.lock();
            // Whoever has gone is noticed when something is sent: an idle reader costs nothing.
            if state.subscribers.is_empty() {
                state.is_running = false;
                return;
            }
        }
    }

    fn pass_on(&self, event: &Arc<Event>) {
        self.0
            .lock()
            .subscribers
            .retain(|subscriber| match subscriber.try_send(event.clone()) {
                Ok(()) => true,
                Err(TrySendError::Disconnected(_)) => false,
                Err(TrySendError::Full(_)) => {
                    log::warn!("a reader of events is too slow and is left behind");
                    false
                }
            });
    }
}
