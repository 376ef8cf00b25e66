//! Spaces as people read them, and as administrators lay them out.
//!
//! A whole space is put in several commands: the space, each hall, the desks page by page. Each is a step towards what
//! the document says and none undoes another, so a document that was interrupted is finished by putting it again; what
//! is already as it should be is not proposed.
//!
//! That names are unique is for the state machine to keep, since what was read here may be old when a step is decided: a
//! step that would make what someone else has just made is refused, and it is looked for and put anew. With a client's
//! key each step has a key derived from it, by what the step is and which attempt, so that a retry gets each step's
//! first answer. A step that had nothing to do is not remembered.

use std::collections::{BTreeMap, BTreeSet};

use super::{Admin, Caller, Consistency, Context, Failure, Proposed, Seen, Service, Sight, Write};
use crate::booking::{
    Actor, Command, Outcome, Refusal,
    account::{Role, User},
    command::MAX_DESKS_PER_COMMAND,
    ids::{HallId, SpaceId, UserId, ZoneId},
    layout::{Desk, DeskDraft, Hall, HallDraft, Plan, Point, Space, SpaceDetails, Zone, ZoneDraft},
    query,
    reply::Invalid,
    text::{Email, Label, Name, Slug},
};

/// How often one step is put anew because someone else had just made what it was to make.
const ATTEMPTS: u8 = 8;

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

    /// Makes a space what the plan says; answers whether it is new.
    ///
    /// # Errors
    /// The first step that was refused, or whose outcome is not known; [`Failure::After`] where a step before it was
    /// done. Putting the same plan again goes on from there.
    pub async fn put_space(
        &self,
        context: &Context,
        admin: &Admin,
        write: &Write,
        plan: SpacePlan,
    ) -> Result<(Seen<WholeSpace>, bool), Failure> {
        let mut work = Work::new(self, context, admin, write);
        let put = async {
            let (space, is_new) = work.put_details(&plan.details).await?;
            Ok((work.finish(space, &plan.halls).await?, is_new))
        };
        put.await.map_err(|failure| work.failed(failure))
    }

    /// Makes a new space. Whether the slug is free is for the state machine to say: of several at once, one makes it.
    ///
    /// # Errors
    /// As [`Self::put_space`], and [`Refusal::SlugTaken`].
    pub async fn create_space(
        &self,
        context: &Context,
        admin: &Admin,
        write: &Write,
        plan: SpacePlan,
    ) -> Result<Seen<WholeSpace>, Failure> {
        let mut work = Work::new(self, context, admin, write);
        let create = async {
            let command = Command::PutSpace {
                space: None,
                details: plan.details.clone(),
                expected_revision: None,
            };
            let (space, _) = space_of(&work.step(&[], command).await?)?;
            work.finish(space, &plan.halls).await
        };
        create.await.map_err(|failure| work.failed(failure))
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

/// The steps of one request.
struct Work<'a> {
    service: &'a Service,
    context: &'a Context,
    admin: &'a Admin,
    write: &'a Write,
    /// The index of the last step that was decided.
    done: Option<u64>,
}

impl<'a> Work<'a> {
    fn new(service: &'a Service, context: &'a Context, admin: &'a Admin, write: &'a Write) -> Self {
        Self {
            service,
            context,
            admin,
            write,
            done: None,
        }
    }

    fn failed(&self, failure: Failure) -> Failure {
        match self.done {
            Some(_) => failure.after(),
            None => failure,
        }
    }

    /// The space itself, and whether it is new. With a client's key it is always proposed: that binds the key to the
    /// whole request, and tells a retry what the first try was told.
    async fn put_details(&mut self, details: &SpaceDetails) -> Result<(SpaceId, bool), Failure> {
        let mut attempt = 0_u8;
        loop {
            let look =
                |sight: &Sight<'_>| query::space_by_id_or_slug(sight.store, details.slug.as_str());
            let space = self.service.read_as_admin(self.admin, look).await?.value;
            if let Some(space) = &space
                && space.details == *details
                && self.write.key.is_none()
            {
                return Ok((space.id, false));
            }
            let command = Command::PutSpace {
                space: space.as_ref().map(|space| space.id),
                details: details.clone(),
                expected_revision: space.as_ref().map(|space| space.schedule_revision),
            };
            let tried: &[u8] = &[attempt];
            let step: &[&[u8]] = if attempt == 0 {
                &[]
            } else {
                &[b"space", tried]
            };
            match self.step(step, command).await {
                Err(failure) if was_made_meanwhile(&failure) && attempt < ATTEMPTS => attempt += 1,
                proposed => return space_of(&proposed?),
            }
        }
    }

    /// The halls of a space that is there, and then the space as it is.
    async fn finish(
        &mut self,
        space: SpaceId,
        halls: &[HallPlan],
    ) -> Result<Seen<WholeSpace>, Failure> {
        let mut present = self.halls(space).await?;
        for planned in halls {
            let mut attempt = 0;
            loop {
                let found = present.iter().find(|(hall, _)| hall.name == planned.name);
                match self.put_hall(space, planned, found, attempt).await {
                    Err(failure) if was_made_meanwhile(&failure) && attempt < ATTEMPTS => {
                        attempt += 1;
                        present = self.halls(space).await?;
                    }
                    put => break put?,
                }
            }
        }
        if let Some(index) = self.done {
            let deadline = self.service.read_deadline();
            self.service.replica.wait_applied(index, deadline).await?;
        }
        let seen = self.service.look(|sight| {
            query::space(sight.store, space).map(|space| whole(sight.store, space))
        })?;
        let value = seen
            .value
            .ok_or(Failure::Internal("a space that was just put is not there"))?;
        Ok(Seen {
            value,
            index: seen.index,
        })
    }

    async fn halls(&self, space: SpaceId) -> Result<Vec<(Hall, Vec<Desk>)>, Failure> {
        let look = |sight: &Sight<'_>| {
            query::space(sight.store, space).map(|space| whole(sight.store, space))
        };
        let seen = self.service.read_as_admin(self.admin, look).await?;
        Ok(seen.value.map_or_else(Vec::new, |whole| whole.halls))
    }

    async fn put_hall(
        &mut self,
        space: SpaceId,
        planned: &HallPlan,
        found: Option<&(Hall, Vec<Desk>)>,
        attempt: u8,
    ) -> Result<(), Failure> {
        let hall = found.map(|(hall, _)| hall);
        let draft = planned.draft(hall);
        let mut zones: BTreeMap<Name, ZoneId> = hall
            .iter()
            .flat_map(|hall| hall.zones.iter().map(|zone| (zone.name.clone(), zone.id)))
            .collect();
        let hall_id = match hall {
            Some(hall) if is_as_drafted(hall, &draft) => hall.id,
            _ => {
                let (id, put) = self.send_hall(space, hall, draft, attempt).await?;
                // The planned zones come first in every draft, so this holds for the answer to an earlier try too.
                let names = planned.zones.iter().map(|zone| zone.name.clone());
                zones.extend(names.zip(put));
                id
            }
        };
        let present: &[Desk] = found.map_or(&[], |(_, desks)| desks);
        self.put_desks(hall_id, planned, &zones, present, attempt)
            .await
    }

    async fn send_hall(
        &mut self,
        space: SpaceId,
        hall: Option<&Hall>,
        draft: HallDraft,
        attempt: u8,
    ) -> Result<(HallId, Vec<ZoneId>), Failure> {
        let name = draft.name.clone();
        let command = Command::PutHall {
            space,
            hall: hall.map(|hall| hall.id),
            draft,
            expected_version: hall.map(|hall| hall.version),
        };
        let step: [&[u8]; 3] = [b"hall", name.as_str().as_bytes(), &[attempt]];
        match self.step(&step, command).await?.outcome {
            Outcome::Hall { id, zones, .. } => Ok((id, zones)),
            _ => Err(unexpected()),
        }
    }

    /// The desks page by page. The pages are those of the plan, so that a retry cuts them in the same places.
    async fn put_desks(
        &mut self,
        hall: HallId,
        planned: &HallPlan,
        zones: &BTreeMap<Name, ZoneId>,
        present: &[Desk],
        attempt: u8,
    ) -> Result<(), Failure> {
        for (number, page) in (0_u64..).zip(planned.desks.chunks(MAX_DESKS_PER_COMMAND)) {
            let mut desks = Vec::new();
            for desk in page {
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
                    desks.push(draft);
                }
            }
            if desks.is_empty() {
                continue;
            }
            let name = planned.name.as_str().as_bytes();
            let step: [&[u8]; 4] = [b"desks", name, &number.to_be_bytes(), &[attempt]];
            self.step(&step, Command::PutDesks { hall, desks }).await?;
        }
        Ok(())
    }

    /// Proposes one step, under a key of its own made from the client's; the step without a name goes under the
    /// client's key itself.
    async fn step(&mut self, step: &[&[u8]], command: Command) -> Result<Proposed, Failure> {
        let (service, actor) = (self.service, self.admin.actor());
        let whole = self.write.dedup(service, actor);
        let dedup = if step.is_empty() {
            whole
        } else {
            whole.for_step(step)
        };
        let proposed = service
            .propose_as(self.context, actor, dedup, self.write.fingerprint, command)
            .await?;
        self.done = self.done.max(Some(proposed.index));
        Ok(proposed)
    }
}

/// Whether someone else has made what was to be made: then it is there to be changed, and a new look finds it.
fn was_made_meanwhile(failure: &Failure) -> bool {
    matches!(
        failure,
        Failure::Refused(refused) if matches!(
            refused.refusal,
            Refusal::SlugTaken | Refusal::NameTaken | Refusal::LabelTaken
        )
    )
}

/// The space that was put, and whether that made it: what an entry makes has the entry's index in its id.
fn space_of(proposed: &Proposed) -> Result<(SpaceId, bool), Failure> {
    match proposed.outcome {
        Outcome::Space { id, .. } => Ok((id, id == SpaceId::assigned(proposed.index, 0))),
        _ => Err(unexpected()),
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
