//! The pure domain of booking.
