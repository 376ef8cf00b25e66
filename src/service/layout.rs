//! Spaces as people read them, and as administrators lay them out.
//!
//! A whole space is put in several commands: the space, each hall, the desks page by page. Each is a step towards what
//! the document says and none undoes another, so a document that was interrupted is finished by putting it again; what
//! is already as it should be is not proposed.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admin, Caller, Consistency, Context, Failure, Proposed, Seen, Service, Sight, Write};
use crate::booking::{
    Actor, Command, Outcome,
    account::{Role, User},
    command::MAX_DESKS_PER_COMMAND,
    ids::{HallId, SpaceId, UserId, ZoneId},
    layout::{Desk, DeskDraft, Hall, HallDraft, Plan, Point, Space, SpaceDetails, Zone, ZoneDraft},
    query,
    reply::Invalid,
    text::{Email, Label, Name, Slug},
};

/// A space as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpacePlan {
    /// The space itself.
    pub details: SpaceDetails,
    /// Halls to make or change, by name.
    pub halls: Vec<HallPlan>,
}

/// A hall as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HallPlan {
    /// Unique in the space.
    pub name: Name,
    /// Its floor plan.
    pub plan: Plan,
    /// Zones to make or change, by name.
    pub zones: Vec<ZonePlan>,
    /// Desks to make or change, by label.
    pub desks: Vec<DeskPlan>,
}

/// A zone as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZonePlan {
    /// Unique in the hall.
    pub name: Name,
    /// What it is for.
    pub kind: Slug,
}

/// A desk as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeskPlan {
    /// Unique in the hall.
    pub label: Label,
    /// Where its middle is.
    pub at: Point,
    /// Degrees clockwise.
    pub rotation_degrees: u16,
    /// The name of its zone.
    pub zone: Option<Name>,
    /// What it has.
    pub features: BTreeSet<Slug>,
    /// Whether it can be booked.
    pub active: bool,
}

/// A space with its halls and their desks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholeSpace {
    /// The space.
    pub space: Space,
    /// Its halls, each with its desks.
    pub halls: Vec<(Hall, Vec<Desk>)>,
}

impl HallPlan {
    /// Checks the bounds that the fields' types do not.
    ///
    /// # Errors
    /// The first that is broken.
    pub fn validate(&self) -> Result<(), Invalid> {
        self.draft(None).validate()?;
        self.desks
            .iter()
            .try_for_each(|desk| desk.draft(None, None).validate(&self.plan))
    }

    /// What to send, given what is there: zones that the plan leaves out stay.
    fn draft(&self, hall: Option<&Hall>) -> HallDraft {
        let present: &[Zone] = hall.map_or(&[], |hall| &hall.zones);
        let id_of = |name: &Name| {
            present
                .iter()
                .find(|zone| zone.name == *name)
                .map(|zone| zone.id)
        };
        let mut zones: Vec<ZoneDraft> = self
            .zones
            .iter()
            .map(|zone| ZoneDraft {
                id: id_of(&zone.name),
                name: zone.name.clone(),
                kind: zone.kind.clone(),
            })
            .collect();
        let planned = |zone: &Zone| self.zones.iter().any(|planned| planned.name == zone.name);
        zones.extend(
            present
                .iter()
                .filter(|zone| !planned(zone))
                .map(|zone| ZoneDraft {
                    id: Some(zone.id),
                    name: zone.name.clone(),
                    kind: zone.kind.clone(),
                }),
        );
        HallDraft {
            name: self.name.clone(),
            plan: self.plan.clone(),
            zones,
        }
    }
}

impl DeskPlan {
    fn draft(&self, desk: Option<&Desk>, zone: Option<ZoneId>) -> DeskDraft {
        DeskDraft {
            id: desk.map(|desk| desk.id),
            zone,
            label: self.label.clone(),
            at: self.at,
            rotation_degrees: self.rotation_degrees,
            features: self.features.clone(),
            active: self.active,
        }
    }
}

impl Admin {
    /// Who acts, for the state machine.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match self {
            Self::User(caller) => Actor::Member(caller.user),
            Self::Operator => Actor::Operator,
        }
    }

    /// The signed-in user, if it is one.
    #[must_use]
    pub fn caller(&self) -> Option<&Caller> {
        match self {
            Self::User(caller) => Some(caller),
            Self::Operator => None,
        }
    }
}

impl Service {
    /// Spaces, oldest first.
    ///
    /// # Errors
    /// Where the state cannot be had that fresh.
    pub async fn spaces(
        &self,
        consistency: Consistency,
        after: Option<SpaceId>,
        limit: usize,
    ) -> Result<Seen<query::Page<Space, SpaceId>>, Failure> {
        self.read(None, consistency, |sight| {
            query::spaces(sight.store, after, limit)
        })
        .await
    }

    /// A space, by id or slug.
    ///
    /// # Errors
    /// Where there is none, or the state cannot be had that fresh.
    pub async fn space(
        &self,
        consistency: Consistency,
        name: &str,
    ) -> Result<Seen<WholeSpace>, Failure> {
        let seen = self
            .read(None, consistency, |sight| {
                query::space_by_id_or_slug(sight.store, name).map(|space| whole(sight.store, space))
            })
            .await?;
        let value = seen.value.ok_or(Failure::NotFound("space"))?;
        Ok(Seen {
            value,
            index: seen.index,
        })
    }

    /// Whether there is a space with this slug.
    ///
    /// # Errors
    /// Where the state cannot be had that fresh.
    pub async fn has_space(&self, admin: &Admin, slug: &str) -> Result<bool, Failure> {
        let look = |sight: &Sight<'_>| query::space_by_id_or_slug(sight.store, slug).is_some();
        Ok(self.read_as_admin(admin, look).await?.value)
    }

    /// Makes a space what the plan says; answers whether it is new.
    ///
    /// # Errors
    /// The first step that was refused, or whose outcome is not known; [`Failure::After`] where a step before it was
    /// done. Putting the same plan again goes on from there.
    pub async fn put_space(
        &self,
        context: &Context,
        admin: &Admin,
        plan: SpacePlan,
    ) -> Result<(Seen<WholeSpace>, bool), Failure> {
        let mut done = None;
        let put = self.put_steps(context, admin, &plan, &mut done).await;
        put.map_err(|failure| match done {
            Some(_) => failure.after(),
            None => failure,
        })
    }

    /// The steps of a plan; `done` is the index of the last one that was decided.
    async fn put_steps(
        &self,
        context: &Context,
        admin: &Admin,
        plan: &SpacePlan,
        done: &mut Option<u64>,
    ) -> Result<(Seen<WholeSpace>, bool), Failure> {
        let present = self
            .read_as_admin(admin, |sight| {
                query::space_by_id_or_slug(sight.store, plan.details.slug.as_str())
                    .map(|space| whole(sight.store, space))
            })
            .await?;
        let is_new = present.value.is_none();
        let (space, halls) = present
            .value
            .map_or((None, Vec::new()), |whole| (Some(whole.space), whole.halls));
        let space_id = match &space {
            Some(space) if space.details == plan.details => space.id,
            _ => {
                let command = Command::PutSpace {
                    space: space.as_ref().map(|space| space.id),
                    details: plan.details.clone(),
                    expected_revision: space.as_ref().map(|space| space.schedule_revision),
                };
                let proposed = self.step(context, admin, command, done).await?;
                let Outcome::Space { id, .. } = proposed.outcome else {
                    return Err(unexpected());
                };
                id
            }
        };
        for planned in &plan.halls {
            let found = halls.iter().find(|(hall, _)| hall.name == planned.name);
            self.put_hall(context, admin, space_id, planned, found, done)
                .await?;
        }
        if let Some(index) = *done {
            self.replica
                .wait_applied(index, self.read_deadline())
                .await?;
        }
        let seen = self.look(|sight| {
            query::space(sight.store, space_id).map(|space| whole(sight.store, space))
        })?;
        let value = seen
            .value
            .ok_or(Failure::Internal("a space that was just put is not there"))?;
        Ok((
            Seen {
                value,
                index: seen.index,
            },
            is_new,
        ))
    }

    async fn put_hall(
        &self,
        context: &Context,
        admin: &Admin,
        space: SpaceId,
        planned: &HallPlan,
        found: Option<&(Hall, Vec<Desk>)>,
        done: &mut Option<u64>,
    ) -> Result<(), Failure> {
        let hall = found.map(|(hall, _)| hall);
        let draft = planned.draft(hall);
        let (hall_id, zones) = match hall {
            Some(hall) if is_as_drafted(hall, &draft) => (
                hall.id,
                hall.zones
                    .iter()
                    .map(|zone| (zone.name.clone(), zone.id))
                    .collect(),
            ),
            _ => {
                self.send_hall(context, admin, space, hall, draft, done)
                    .await?
            }
        };
        let present: &[Desk] = found.map_or(&[], |(_, desks)| desks);
        let mut drafts = Vec::new();
        for desk in &planned.desks {
            let zone = match &desk.zone {
                None => None,
                Some(name) => Some(
                    *zones
                        .get(name)
                        .ok_or(Failure::Internal("a zone that was just put is not there"))?,
                ),
            };
            let existing = present.iter().find(|present| present.label == desk.label);
            let draft = desk.draft(existing, zone);
            if !existing.is_some_and(|existing| is_desk_as_drafted(existing, &draft)) {
                drafts.push(draft);
            }
        }
        for desks in drafts.chunks(MAX_DESKS_PER_COMMAND) {
            let command = Command::PutDesks {
                hall: hall_id,
                desks: desks.to_vec(),
            };
            self.step(context, admin, command, done).await?;
        }
        Ok(())
    }

    async fn send_hall(
        &self,
        context: &Context,
        admin: &Admin,
        space: SpaceId,
        hall: Option<&Hall>,
        draft: HallDraft,
        done: &mut Option<u64>,
    ) -> Result<(HallId, BTreeMap<Name, ZoneId>), Failure> {
        let names: Vec<Name> = draft.zones.iter().map(|zone| zone.name.clone()).collect();
        let command = Command::PutHall {
            space,
            hall: hall.map(|hall| hall.id),
            draft,
            expected_version: hall.map(|hall| hall.version),
        };
        let proposed = self.step(context, admin, command, done).await?;
        let Outcome::Hall { id, zones, .. } = proposed.outcome else {
            return Err(unexpected());
        };
        Ok((id, names.into_iter().zip(zones).collect()))
    }

    async fn step(
        &self,
        context: &Context,
        admin: &Admin,
        command: Command,
        done: &mut Option<u64>,
    ) -> Result<Proposed, Failure> {
        let proposed = self
            .propose(context, admin.actor(), &Write::unkeyed(), command)
            .await?;
        *done = (*done).max(Some(proposed.index));
        Ok(proposed)
    }

    /// Gives a user another role; `name` is an id or an e-mail.
    ///
    /// # Errors
    /// Where there is no such user, or the state machine refuses.
    pub async fn set_role(
        &self,
        context: &Context,
        admin: &Admin,
        write: &Write,
        name: &str,
        role: Role,
    ) -> Result<Seen<User>, Failure> {
        let command = match (name.parse::<UserId>(), name.parse::<Email>()) {
            (_, Ok(email)) => Command::SetRole { email, role },
            (Ok(user), _) => Command::SetRoleOf { user, role },
            _ => return Err(Failure::NotFound("user")),
        };
        let proposed = self.propose(context, admin.actor(), write, command).await?;
        let Outcome::User(user) = proposed.outcome else {
            return Err(unexpected());
        };
        Ok(Seen {
            value: user,
            index: proposed.index,
        })
    }
}

/// A space with all that is in it.
pub(super) fn whole(store: &dyn crate::booking::Store, space: Space) -> WholeSpace {
    let mut by_hall: BTreeMap<HallId, Vec<Desk>> = BTreeMap::new();
    for desk in query::desks_of_space(store, space.id) {
        by_hall.entry(desk.hall).or_default().push(desk);
    }
    let halls = query::halls(store, space.id);
    let halls = halls.into_iter().map(|hall| {
        let desks = by_hall.remove(&hall.id).unwrap_or_default();
        (hall, desks)
    });
    WholeSpace {
        halls: halls.collect(),
        space,
    }
}

/// Something was decided, but not what was proposed.
pub(super) fn unexpected() -> Failure {
    Failure::Internal("the state machine answered with an outcome of another kind").after()
}

fn is_as_drafted(hall: &Hall, draft: &HallDraft) -> bool {
    let same_zones = hall.zones.len() == draft.zones.len()
        && draft.zones.iter().all(|wanted| {
            hall.zones.iter().any(|zone| {
                Some(zone.id) == wanted.id && zone.name == wanted.name && zone.kind == wanted.kind
            })
        });
    hall.name == draft.name && hall.plan == draft.plan && same_zones
}

fn is_desk_as_drafted(desk: &Desk, draft: &DeskDraft) -> bool {
    desk.zone == draft.zone
        && desk.label == draft.label
        && desk.at == draft.at
        && desk.rotation_degrees == draft.rotation_degrees
        && desk.features.iter().eq(draft.features.iter())
        && desk.active == draft.active
}
