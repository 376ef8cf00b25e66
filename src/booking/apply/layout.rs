//! Laying out spaces, halls and desks.

use super::{Entry, check_version};
use crate::command::MAX_DESKS_PER_COMMAND;
use crate::ids::{DeskId, HallId, SpaceId, ZoneId};
use crate::keys;
use crate::layout::{
    Desk, DeskDraft, Hall, HallDraft, MAX_DESKS_PER_HALL, MAX_HALLS_PER_SPACE, Space, SpaceDetails,
    Zone, ZoneDraft,
};
use crate::reply::{Invalid, Kind, Outcome, Refusal};
use crate::reservation::EventKind;
use crate::text::Label;
use std::collections::{BTreeMap, BTreeSet};

/// The most spaces.
const MAX_SPACES: u32 = 1_000;

impl Entry<'_> {
    pub(super) fn put_space(
        &mut self,
        id: Option<SpaceId>,
        details: SpaceDetails,
        expected_revision: Option<u32>,
    ) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let old = match id {
            None => None,
            Some(id) => {
                let old = keys::space::get(self.store, id);
                Some(old.ok_or(Refusal::NotFound(Kind::Space))?)
            }
        };
        check_version(
            expected_revision,
            old.as_ref().map_or(0, |old| old.schedule_revision),
        )?;
        details.validate().map_err(Refusal::Invalid)?;
        let owner = keys::space_by_slug::get(self.store, &details.slug);
        if owner.is_some_and(|owner| Some(owner) != id) {
            return Err(Refusal::SlugTaken);
        }
        match old {
            None => self.make_space(details),
            Some(old) => Ok(self.change_space(old, details)),
        }
    }

    fn make_space(&mut self, details: SpaceDetails) -> Result<Outcome, Refusal> {
        if keys::totals::get(self.store).spaces >= u64::from(MAX_SPACES) {
            return Err(Refusal::Full { max: MAX_SPACES });
        }
        let id = SpaceId::assigned(self.stamp.index, self.ordinal());
        keys::totals::change(self.store, |totals| totals.spaces += 1);
        keys::space_by_slug::put(self.store, &details.slug, id);
        let space = Space {
            id,
            details,
            schedule_revision: 1,
            created_at: self.now(),
        };
        Ok(self.save_space(&space))
    }

    fn change_space(&mut self, mut space: Space, details: SpaceDetails) -> Outcome {
        if space.details == details {
            return Outcome::Space {
                id: space.id,
                schedule_revision: space.schedule_revision,
            };
        }
        if space.details.slug != details.slug {
            keys::space_by_slug::delete(self.store, &space.details.slug);
            keys::space_by_slug::put(self.store, &details.slug, space.id);
        }
        space.details = details;
        space.schedule_revision += 1;
        self.save_space(&space)
    }

    fn save_space(&mut self, space: &Space) -> Outcome {
        keys::space::put(self.store, space);
        self.emit(space.id, EventKind::SpaceChanged);
        Outcome::Space {
            id: space.id,
            schedule_revision: space.schedule_revision,
        }
    }

    pub(super) fn put_hall(
        &mut self,
        space: SpaceId,
        id: Option<HallId>,
        draft: HallDraft,
        expected_version: Option<u32>,
    ) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        keys::space::get(self.store, space).ok_or(Refusal::NotFound(Kind::Space))?;
        let old = match id {
            None => None,
            Some(id) => {
                let old = keys::hall::get(self.store, space, id);
                Some(old.ok_or(Refusal::NotFound(Kind::Hall))?)
            }
        };
        let old_version = old.as_ref().map_or(0, |old| old.version);
        check_version(expected_version, old_version)?;
        draft.validate().map_err(Refusal::Invalid)?;
        self.check_zones(old.as_ref(), &draft)?;
        self.check_name(space, old.as_ref(), &draft)?;
        if old.is_none() && keys::hall::of_space(self.store, space).len() >= MAX_HALLS_PER_SPACE {
            return Err(full(MAX_HALLS_PER_SPACE));
        }
        let id = id.unwrap_or_else(|| self.make_hall(space));
        let zones = draft
            .zones
            .into_iter()
            .map(|zone| self.zone(zone))
            .collect();
        let (name, plan) = (draft.name, draft.plan);
        let hall = Hall {
            id,
            space,
            name,
            plan,
            zones,
            version: old_version + 1,
        };
        keys::hall::put(self.store, &hall);
        self.emit(space, EventKind::HallChanged { hall: id });
        let zones = hall.zones.iter().map(|zone| zone.id).collect();
        Ok(Outcome::Hall {
            id,
            zones,
            version: hall.version,
        })
    }

    /// A hall is known by its name, so no two of a space share one: two makers who both saw that there was none must
    /// not make two, with the same desks in each.
    fn check_name(
        &self,
        space: SpaceId,
        old: Option<&Hall>,
        draft: &HallDraft,
    ) -> Result<(), Refusal> {
        let is_kept = old.is_some_and(|old| old.name == draft.name);
        let mut halls = keys::hall::of_space(self.store, space).into_iter();
        if !is_kept && halls.any(|hall| hall.name == draft.name) {
            return Err(Refusal::NameTaken);
        }
        Ok(())
    }

    fn make_hall(&mut self, space: SpaceId) -> HallId {
        let id = HallId::assigned(self.stamp.index, self.ordinal());
        keys::hall_by_id::put(self.store, id, space);
        keys::totals::change(self.store, |totals| totals.halls += 1);
        id
    }

    fn zone(&mut self, draft: ZoneDraft) -> Zone {
        let ZoneDraft { id, name, kind } = draft;
        let id = id.unwrap_or_else(|| ZoneId::assigned(self.stamp.index, self.ordinal()));
        Zone { id, name, kind }
    }

    /// Zones that are to change must be there, zones that are to go must be empty, and the desks
    /// must still stand on the plan.
    fn check_zones(&self, old: Option<&Hall>, draft: &HallDraft) -> Result<(), Refusal> {
        let present: BTreeSet<ZoneId> = old
            .iter()
            .flat_map(|hall| hall.zones.iter().map(|zone| zone.id))
            .collect();
        let named: Vec<ZoneId> = draft.zones.iter().filter_map(|zone| zone.id).collect();
        let kept: BTreeSet<ZoneId> = named.iter().copied().collect();
        if !kept.is_subset(&present) {
            return Err(Refusal::NotFound(Kind::Zone));
        }
        if kept.len() < named.len() {
            return Err(Refusal::Invalid(Invalid::Zones));
        }
        let Some(hall) = old else { return Ok(()) };
        for desk in self.desks(hall) {
            if desk.zone.is_some_and(|zone| !kept.contains(&zone)) {
                return Err(Refusal::ZoneInUse);
            }
            if !draft.plan.holds(desk.at) {
                return Err(Refusal::Invalid(Invalid::DeskPosition));
            }
        }
        Ok(())
    }

    fn desks(&self, hall: &Hall) -> impl Iterator<Item = Desk> {
        let ids = keys::desk_of_space::of_hall(self.store, hall.space, hall.id);
        let read = |id| keys::desk::get(self.store, id).expect("the index of desks names them");
        ids.into_iter().map(read)
    }

    pub(super) fn put_desks(
        &mut self,
        hall: HallId,
        drafts: Vec<DeskDraft>,
    ) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let hall = keys::hall_by_id::get(self.store, hall)
            .and_then(|space| keys::hall::get(self.store, space, hall))
            .ok_or(Refusal::NotFound(Kind::Hall))?;
        self.check_desks(&hall, &drafts)?;
        let desks = drafts
            .into_iter()
            .map(|draft| self.put_desk(&hall, draft))
            .collect();
        Ok(Outcome::Desks(desks))
    }

    fn check_desks(&self, hall: &Hall, drafts: &[DeskDraft]) -> Result<(), Refusal> {
        if !(1..=MAX_DESKS_PER_COMMAND).contains(&drafts.len()) {
            return Err(Refusal::Invalid(Invalid::DeskCount));
        }
        let mut labels: BTreeMap<DeskId, Label> =
            self.desks(hall).map(|desk| (desk.id, desk.label)).collect();
        let mut changed = BTreeSet::new();
        for draft in drafts {
            draft.validate(&hall.plan).map_err(Refusal::Invalid)?;
            if draft
                .zone
                .is_some_and(|id| hall.zones.iter().all(|zone| zone.id != id))
            {
                return Err(Refusal::NotFound(Kind::Zone));
            }
            let Some(id) = draft.id else { continue };
            if !changed.insert(id) {
                return Err(Refusal::Invalid(Invalid::DeskCount));
            }
            labels.remove(&id).ok_or(Refusal::NotFound(Kind::Desk))?;
        }
        let mut taken: BTreeSet<&Label> = labels.values().collect();
        let all_free = drafts.iter().all(|draft| taken.insert(&draft.label));
        if !all_free {
            return Err(Refusal::LabelTaken);
        }
        if taken.len() > MAX_DESKS_PER_HALL {
            return Err(full(MAX_DESKS_PER_HALL));
        }
        Ok(())
    }

    fn put_desk(&mut self, hall: &Hall, draft: DeskDraft) -> DeskId {
        let id = draft.id.unwrap_or_else(|| self.make_desk(hall));
        let old_version = keys::desk::get(self.store, id).map_or(0, |old| old.version);
        let desk = Desk {
            id,
            space: hall.space,
            hall: hall.id,
            zone: draft.zone,
            label: draft.label,
            at: draft.at,
            rotation_degrees: draft.rotation_degrees,
            features: draft.features.into_iter().collect(),
            active: draft.active,
            version: old_version + 1,
        };
        self.save_desk(&desk);
        id
    }

    fn make_desk(&mut self, hall: &Hall) -> DeskId {
        let id = DeskId::assigned(self.stamp.index, self.ordinal());
        keys::desk_of_space::put(self.store, hall.space, hall.id, id);
        keys::totals::change(self.store, |totals| totals.desks += 1);
        id
    }

    pub(super) fn set_desk_active(&mut self, id: DeskId, active: bool) -> Result<Outcome, Refusal> {
        self.require_manager()?;
        let mut desk = keys::desk::get(self.store, id).ok_or(Refusal::NotFound(Kind::Desk))?;
        if desk.active != active {
            desk.active = active;
            desk.version += 1;
            self.save_desk(&desk);
        }
        Ok(Outcome::Desks(vec![id]))
    }

    fn save_desk(&mut self, desk: &Desk) {
        keys::desk::put(self.store, desk);
        self.emit(desk.space, EventKind::DeskChanged { desk: desk.id });
    }
}

fn full(max: usize) -> Refusal {
    Refusal::Full {
        max: u32::try_from(max).expect("limits are small"),
    }
}
