//! Telling those who look at a space what happened, and forgetting what is too old to tell.

use super::Entry;
use crate::ids::SpaceId;
use crate::instant::HOUR_MS;
use crate::keys;
use crate::reservation::{Event, EventKind};

/// How long events are kept at least, in milliseconds. They stay longer where nothing new happens.
pub(crate) const EVENT_RETENTION_MS: u64 = 72 * HOUR_MS;
/// How many old events of a space each new one makes way for: two, so that sweeping catches up.
const SWEPT_EVENTS: usize = 2;

impl Entry<'_> {
    pub(super) fn emit(&mut self, space: SpaceId, kind: EventKind) {
        self.sweep_events(space);
        let ordinal = self.next_event;
        self.next_event += 1;
        let event = Event {
            index: self.stamp.index,
            ordinal,
            at: self.now(),
            kind,
        };
        keys::event::put(self.store, space, &event);
    }

    fn sweep_events(&mut self, space: SpaceId) {
        let mut floor = None;
        for event in keys::event::from(self.store, space, (0, 0), SWEPT_EVENTS) {
            if self.now().ms_since(event.at) > EVENT_RETENTION_MS {
                keys::event::delete(self.store, space, &event);
                floor = Some(event.index);
            }
        }
        if let Some(index) = floor {
            keys::event_floor::put(self.store, space, index);
        }
    }
}
