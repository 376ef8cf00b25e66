//! Booking, moving, cancelling, looking.

use serde_json::json;

use super::{Client, DAY, Ended, FIRST_SLOT, SPACE, instant, sight, user_name};
use crate::checker::history::{Action, Id};
use crate::coverage::Event;
use crate::front::Request;

impl Client {
    pub(super) async fn create(&mut self) {
        let user = self.user();
        let (desk, slots) = self.wanted();
        let body = json!({"desk": &*desk, "starts_at": instant(slots[0]), "ends_at": instant(slots[slots.len() - 1] + 1)});
        let key = self.dice.chance(0.9).then(|| self.key());
        let action = Action::Create {
            user: user_name(user),
            desk,
            slots,
            key,
        };
        let request = Request::new("POST", "/api/v1/bookings").body(body);
        if let Ended::Answered(response) = self.write(user, action, request).await
            && let Some(sight) = sight(&response.body)
        {
            self.town.count(Event::Booked);
            self.town.bookings.lock().push((user, sight.booking));
        }
    }

    pub(super) fn some_booking(&mut self) -> Option<(u64, Id)> {
        let bookings = self.town.bookings.lock();
        if bookings.is_empty() {
            return None;
        }
        // The newest are the most likely to be active.
        let recent = bookings.len().min(12);
        Some(bookings[bookings.len() - 1 - self.dice.index(recent)].clone())
    }

    pub(super) async fn cancel(&mut self) {
        let Some((user, booking)) = self.some_booking() else {
            return;
        };
        let key = self.dice.chance(0.8).then(|| self.key());
        let request = Request::new("POST", format!("/api/v1/bookings/{booking}/cancel"));
        let action = Action::Cancel {
            user: user_name(user),
            booking,
            key,
        };
        if let Ended::Answered(response) = self.write(user, action, request).await
            && response.is_success()
        {
            self.town.count(Event::Cancelled);
        }
    }

    pub(super) async fn relocate(&mut self) {
        let Some((user, booking)) = self.some_booking() else {
            return;
        };
        let (desk, slots) = self.wanted();
        let body = json!({"desk": &*desk, "starts_at": instant(slots[0]), "ends_at": instant(slots[slots.len() - 1] + 1)});
        let key = self.dice.chance(0.9).then(|| self.key());
        let mut request = Request::new("PATCH", format!("/api/v1/bookings/{booking}")).body(body);
        if self.dice.chance(0.2) {
            request.if_match = Some(self.dice.between(1, 3));
        }
        let action = Action::Move {
            user: user_name(user),
            booking,
            desk,
            slots,
            key,
        };
        if let Ended::Answered(response) = self.write(user, action, request).await
            && response.is_success()
        {
            self.town.count(Event::Moved);
        }
    }

    pub(super) async fn look_around(&mut self) {
        let local = self.dice.chance(0.3);
        let min_index = self.min_index();
        self.availability(local, min_index).await;
    }

    /// Read your writes: an index that was seen, on whatever node.
    pub(super) fn min_index(&mut self) -> Option<u64> {
        (self.dice.chance(0.3) && self.seen_index > 0).then_some(self.seen_index)
    }

    pub(super) async fn availability(&mut self, local: bool, min_index: Option<u64>) -> bool {
        let plan = &self.town.plan.load;
        let slots: Vec<u64> = (FIRST_SLOT..FIRST_SLOT + plan.slots).collect();
        let action = Action::Availability {
            local,
            desks: self.town.desks.lock().clone(),
            slots,
        };
        let request = Request::new(
            "GET",
            format!("/api/v1/spaces/{SPACE}/availability?date={DAY}"),
        );
        self.read(None, action, request, min_index).await
    }

    pub(super) async fn list(&mut self) {
        let (user, local) = (self.user(), self.dice.chance(0.3));
        let min_index = self.min_index();
        self.bookings_of(user, local, min_index).await;
    }

    pub(super) async fn bookings_of(
        &mut self,
        user: u64,
        local: bool,
        min_index: Option<u64>,
    ) -> bool {
        let action = Action::List {
            local,
            user: user_name(user),
        };
        let request = Request::new("GET", "/api/v1/bookings?status=active&limit=100");
        self.read(Some(user), action, request, min_index).await
    }

    pub(super) async fn look_at_one(&mut self) {
        if let Some((user, booking)) = self.some_booking() {
            let local = self.dice.chance(0.3);
            self.booking_of(user, booking, local).await;
        }
    }

    pub(super) async fn booking_of(&mut self, user: u64, booking: Id, local: bool) -> bool {
        let request = Request::new("GET", format!("/api/v1/bookings/{booking}"));
        let action = Action::Get {
            local,
            user: user_name(user),
            booking,
        };
        self.read(Some(user), action, request, None).await
    }
}
