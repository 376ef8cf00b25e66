//! What operations do to one object.

use crate::checker::search::Step;

/// Who holds a slot: the number of a booking. `None` is free.
pub(crate) type Holder = Option<u32>;

/// What an operation does to a slot, of a desk or of a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HolderStep {
    /// A booking that was not there takes the slot, which was free.
    Take(u32),
    /// A booking that is there or elsewhere is here afterwards: the slot was free, or its own.
    Enter(u32),
    /// A booking is not here afterwards, wherever it was.
    Leave(u32),
    /// The slot is free.
    Free,
    /// The slot is held, by whomever.
    Held,
    /// The slot is held by this booking.
    HeldBy(u32),
    /// The slot is not held by this booking.
    NotHeldBy(u32),
    /// The slot is held by another booking than this.
    HeldByOther(u32),
    /// The slot is free or held by this booking.
    FreeBut(u32),
}

impl Step for HolderStep {
    type State = Holder;
    const START: Holder = None;

    fn apply(&self, state: Holder) -> Option<Holder> {
        match *self {
            Self::Take(booking) => state.is_none().then_some(Some(booking)),
            Self::Enter(booking) => state
                .is_none_or(|holder| holder == booking)
                .then_some(Some(booking)),
            Self::Leave(booking) => Some(state.filter(|holder| *holder != booking)),
            Self::Free => state.is_none().then_some(state),
            Self::Held => state.is_some().then_some(state),
            Self::HeldBy(booking) => (state == Some(booking)).then_some(state),
            Self::NotHeldBy(booking) => (state != Some(booking)).then_some(state),
            Self::HeldByOther(booking) => state
                .is_some_and(|holder| holder != booking)
                .then_some(state),
            Self::FreeBut(booking) => state
                .is_none_or(|holder| holder == booking)
                .then_some(state),
        }
    }

    fn is_read(&self) -> bool {
        !matches!(self, Self::Take(_) | Self::Enter(_) | Self::Leave(_))
    }
}

/// How it stands with a booking. Places are numbered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// It was not made.
    Absent,
    /// It holds its place.
    Active {
        /// Where.
        place: u32,
        /// How often it was changed, from 1.
        version: u64,
    },
    /// It gave its place up.
    Cancelled {
        /// Where it was.
        place: u32,
        /// How often it was changed.
        version: u64,
    },
}

/// What an operation does to a booking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BookingStep {
    /// It is made, at a place.
    Make(u32),
    /// It is at a place afterwards, with a version if that was told. To be moved to where it is changes nothing.
    Move(u32, Option<u64>),
    /// It is cancelled afterwards, as it was seen if it was. To be cancelled twice changes nothing.
    Cancel(Option<(u32, u64)>),
    /// It stands so.
    Stands(Standing),
    /// It is not active.
    Inactive,
    /// It is cancelled.
    IsCancelled,
    /// It has this version.
    HasVersion(u64),
}

impl Step for BookingStep {
    type State = Standing;
    const START: Standing = Standing::Absent;

    fn apply(&self, state: Standing) -> Option<Standing> {
        use Standing::{Absent, Active, Cancelled};
        match (*self, state) {
            (Self::Make(place), Absent) => Some(Active { place, version: 1 }),
            (Self::Move(to, told), Active { place, version }) => {
                let version = if to == place { version } else { version + 1 };
                let fits = told.is_none_or(|told| told == version);
                fits.then_some(Active { place: to, version })
            }
            (Self::Cancel(told), Active { place, version }) => {
                let version = version + 1;
                let fits = told.is_none_or(|told| told == (place, version));
                fits.then_some(Cancelled { place, version })
            }
            (Self::Cancel(told), Cancelled { place, version }) => told
                .is_none_or(|told| told == (place, version))
                .then_some(state),
            (Self::Stands(seen), _) => (seen == state).then_some(state),
            (Self::Inactive, Absent | Cancelled { .. }) => Some(state),
            (Self::IsCancelled, Cancelled { .. }) => Some(state),
            (Self::HasVersion(seen), Active { version, .. } | Cancelled { version, .. }) => {
                (seen == version).then_some(state)
            }
            _ => None,
        }
    }

    fn is_read(&self) -> bool {
        !matches!(self, Self::Make(_) | Self::Move(..) | Self::Cancel(_))
    }
}
