//! Spaces and bookings as the contract has them, call by call, against a node in one process.

use axum::http::StatusCode;
use mesto::replica::Fault;
use serde_json::{Value, json};

use crate::api_world::{
    OPERATOR, START_MS, TOMORROW, World, at, booking, delete, get, nevsky, patch, post, put,
};

#[tokio::test]
async fn a_space_is_shown_whole_by_id_and_slug() {
    let world = World::furnished().await;
    let list = world.send(get("/api/v1/spaces")).await;
    assert_eq!(list.body["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(list.body["next_cursor"], Value::Null);
    let id = list.body["items"][0]["id"].as_str().expect("an id");
    let by_slug = world.send(get("/api/v1/spaces/nevsky")).await;
    let by_id = world.send(get(&format!("/api/v1/spaces/{id}"))).await;
    assert_eq!(by_slug.body, by_id.body);
    let space = by_id.body;
    assert_eq!(space["opening_hours"]["sat"], json!([["10:00", "20:00"]]));
    assert_eq!(space["opening_hours"]["sun"], json!([]));
    assert_eq!(
        space["closures"],
        json!([{"date": "2026-03-06", "reason": "Repairs"}])
    );
    assert_eq!(space["rules"]["days_ahead"], 30);
    assert_eq!(space["halls"].as_array().map(Vec::len), Some(2));
    let hall = &space["halls"][0];
    assert_eq!(
        hall["plan"]["walls"],
        json!([{"x1": 0, "y1": 0, "x2": 400, "y2": 0}])
    );
    let desk = &hall["desks"][1];
    assert_eq!(
        (&desk["label"], &desk["rotation"]),
        (&json!("A-2"), &json!(90))
    );
    assert_eq!(desk["zone"], hall["zones"][0]["id"]);
    assert_eq!(desk["features"], json!(["monitor", "standing"]));
    world
        .send(get("/api/v1/spaces/nowhere"))
        .await
        .is_problem(404, "not_found");
}

#[tokio::test]
async fn putting_a_space_again_changes_nothing_and_a_change_changes_only_itself() {
    let world = World::furnished().await;
    let (before, index) = (
        world.send(get("/api/v1/spaces/nevsky")).await.body,
        world.replica.digest(),
    );
    let again = world
        .send(
            put("/api/v1/admin/spaces/nevsky")
                .token(OPERATOR)
                .json(&nevsky()),
        )
        .await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &before));
    assert_eq!(world.replica.digest(), index, "not even an entry");

    let mut document = nevsky();
    document["halls"][0]["desks"][0]["active"] = false.into();
    document["halls"][1]["desks"] = json!([{"label": "B-2", "x": 20, "y": 20}]);
    let changed = world
        .send(
            put("/api/v1/admin/spaces/nevsky")
                .token(OPERATOR)
                .json(&document),
        )
        .await;
    assert_eq!(changed.status, StatusCode::OK);
    assert_eq!(
        changed.body["schedule_revision"],
        before["schedule_revision"]
    );
    assert_eq!(changed.body["halls"][0]["desks"][0]["active"], false);
    assert_eq!(
        changed.body["halls"][0]["desks"][1],
        before["halls"][0]["desks"][1]
    );
    assert_eq!(
        changed.body["halls"][1]["desks"].as_array().map(Vec::len),
        Some(2),
        "what is left out stays"
    );

    let create = world
        .send(post("/api/v1/admin/spaces").token(OPERATOR).json(&nevsky()))
        .await;
    create.is_problem(409, "slug_taken");
    let member = world.member("anna@example.com").await;
    let forbidden = world
        .send(
            put("/api/v1/admin/spaces/nevsky")
                .token(&member)
                .json(&nevsky()),
        )
        .await;
    forbidden.is_problem(403, "forbidden");
}

#[tokio::test]
async fn availability_holds_free_desks_and_slots_that_have_not_started() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    assert_eq!(
        world.book(&token, &desks[0], "09:00", "11:00").await.status,
        StatusCode::CREATED
    );
    let day = |extra: &str| format!("/api/v1/spaces/nevsky/availability?date={TOMORROW}{extra}");

    let all = world.send(get(&day(""))).await.body;
    assert_eq!(all["slots"].as_array().map(Vec::len), Some(14));
    assert_eq!(
        all["slots"][0],
        json!({"starts_at": at("08:00"), "ends_at": at("09:00"), "local": "08:00"})
    );
    assert_eq!(
        (&all["date"], &all["time_zone"]),
        (&json!(TOMORROW), &json!("Europe/Moscow"))
    );
    assert_eq!(all["desks"].as_array().map(Vec::len), Some(5));
    assert_eq!(all["desks"][0]["desk"], desks[0].as_str());
    assert_eq!(
        all["desks"][0]["free"],
        json!([0, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    );

    let only = async |extra: &str| -> Vec<String> {
        let body = world.send(get(&day(extra))).await.body;
        let desks = body["desks"].as_array().expect("desks").iter();
        desks
            .map(|desk| desk["label"].as_str().expect("a label").to_owned())
            .collect()
    };
    assert_eq!(
        only("&from=09:00&to=11:00").await,
        ["A-2", "A-3", "A-4", "B-1"],
        "A-1 has no free slot then"
    );
    assert_eq!(only("&hall=Attic").await, ["B-1"]);
    assert_eq!(only("&zone=quiet").await, ["A-1", "A-2"]);
    assert_eq!(
        only("&zone=By%20the%20window&feature=standing").await,
        ["A-4"]
    );
    assert_eq!(only("&feature=monitor&feature=standing").await, ["A-2"]);

    // It is 09:30 on Monday: the slots of 08:00 and 09:00 have started.
    let today = world
        .send(get("/api/v1/spaces/nevsky/availability?date=2026-03-02"))
        .await
        .body;
    assert_eq!(today["slots"][0]["local"], "10:00");
    for closed in ["2026-03-06", "2026-03-08"] {
        let body = world
            .send(get(&format!(
                "/api/v1/spaces/nevsky/availability?date={closed}"
            )))
            .await
            .body;
        assert_eq!(
            (&body["slots"], &body["desks"]),
            (&json!([]), &json!([])),
            "{closed}"
        );
    }
}

#[tokio::test]
async fn each_rule_of_booking_has_its_answer() {
    let world = World::furnished().await;
    let (anna, boris) = (
        world.member("anna@example.com").await,
        world.member("boris@example.com").await,
    );
    let desks = world.desks().await;
    assert_eq!(
        world.book(&anna, &desks[0], "10:00", "12:00").await.status,
        StatusCode::CREATED
    );

    let taken = world.book(&boris, &desks[0], "11:00", "13:00").await;
    taken.is_problem(409, "slot_taken");
    assert_eq!(taken.body["outcome"], "not_applied");
    assert_eq!(
        taken.body["alternatives"][0],
        json!({"desk": desks[1], "label": "A-2"}),
        "the nearest first"
    );
    let busy = world.book(&anna, &desks[1], "11:00", "13:00").await;
    busy.is_problem(409, "user_already_booked");
    assert!(
        busy.body["booking"]
            .as_str()
            .is_some_and(|id| id.starts_with("bkg_"))
    );

    world
        .book(&boris, &desks[1], "10:30", "11:30")
        .await
        .is_problem(422, "off_grid");
    world
        .book(&boris, &desks[1], "21:00", "23:00")
        .await
        .is_problem(422, "outside_opening_hours");
    let single = |starts_at: &str| {
        post("/api/v1/bookings")
            .token(&boris)
            .json(&json!({"desk": desks[1], "starts_at": starts_at}))
    };
    world
        .send(single("2026-03-06T10:00:00+03:00"))
        .await
        .is_problem(422, "closed");
    world
        .send(single("2026-03-02T09:00:00+03:00"))
        .await
        .is_problem(422, "in_the_past");
    world
        .send(single("2026-05-04T10:00:00+03:00"))
        .await
        .is_problem(422, "too_far_ahead");
    let other_offset = world.send(single("2026-03-03T07:00:00Z")).await;
    assert_eq!(
        (other_offset.status, &other_offset.body["starts_at"]),
        (StatusCode::CREATED, &json!(at("10:00")))
    );

    let nowhere = world
        .book(&boris, "dsk_0000000zzzzzz", "10:00", "11:00")
        .await;
    nowhere.is_problem(404, "not_found");
    let for_another = json!({"desk": desks[2], "starts_at": at("10:00"), "user": world.sign_in("anna@example.com").await["user"]["id"]});
    world
        .send(post("/api/v1/bookings").token(&boris).json(&for_another))
        .await
        .is_problem(403, "forbidden");
}

#[tokio::test]
async fn an_administrator_books_for_others_and_sees_their_bookings() {
    let world = World::furnished().await;
    let anna = world.member("anna@example.com").await;
    let admin = world.admin("admin@example.com").await;
    let user = world.send(get("/api/v1/me").token(&anna)).await.body["id"].clone();
    let desks = world.desks().await;
    let body = json!({"desk": desks[0], "starts_at": at("10:00"), "user": user});
    let booked = world
        .send(post("/api/v1/bookings").token(&admin).json(&body))
        .await;
    assert_eq!(
        (booked.status, &booked.body["user"]),
        (StatusCode::CREATED, &user),
        "{booked:?}"
    );
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );
    assert_eq!(
        world.send(get(&uri).token(&anna)).await.status,
        StatusCode::OK
    );
    assert_eq!(
        world.send(get(&uri).token(&admin)).await.status,
        StatusCode::OK
    );
    let boris = world.member("boris@example.com").await;
    world
        .send(get(&uri).token(&boris))
        .await
        .is_problem(404, "not_found");
    world
        .send(patch(&uri).token(&boris).json(&json!({"desk": desks[1]})))
        .await
        .is_problem(404, "not_found");
    world
        .send(post(&format!("{uri}/cancel")).token(&boris))
        .await
        .is_problem(404, "not_found");
}

#[tokio::test]
async fn a_booking_is_moved_and_cancelled_by_version() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let booked = world.book(&token, &desks[0], "10:00", "12:00").await;
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );

    let moved = patch(&uri)
        .token(&token)
        .header("if-match", "\"v1\"")
        .json(&json!({"starts_at": at("11:00")}));
    let moved = world.send(moved).await;
    assert_eq!(
        (moved.status, moved.header("etag")),
        (StatusCode::OK, "\"v2\""),
        "{moved:?}"
    );
    assert_eq!(
        (&moved.body["starts_at"], &moved.body["ends_at"]),
        (&json!(at("11:00")), &json!(at("13:00")))
    );
    let stale = patch(&uri)
        .token(&token)
        .header("if-match", "\"v1\"")
        .json(&json!({"desk": desks[1]}));
    let stale = world.send(stale).await;
    stale.is_problem(412, "version_mismatch");
    assert_eq!(stale.body["current_version"], 2);
    let other_desk = world
        .send(patch(&uri).token(&token).json(&json!({"desk": desks[1]})))
        .await;
    assert_eq!(
        (
            &other_desk.body["desk_label"],
            &other_desk.body["starts_at"]
        ),
        (&json!("A-2"), &json!(at("11:00")))
    );

    let cancelled = world
        .send(post(&format!("{uri}/cancel")).token(&token))
        .await;
    assert_eq!(
        (cancelled.status, &cancelled.body["status"]),
        (StatusCode::OK, &json!("cancelled"))
    );
    assert!(cancelled.body["cancelled_at"].is_string());
    let twice = world
        .send(post(&format!("{uri}/cancel")).token(&token).body(b"{}"))
        .await;
    assert_eq!(
        (twice.status, &twice.body),
        (StatusCode::OK, &cancelled.body)
    );
    world
        .send(patch(&uri).token(&token).json(&json!({"desk": desks[0]})))
        .await
        .is_problem(409, "booking_cancelled");
    assert_eq!(
        world.book(&token, &desks[1], "11:00", "13:00").await.status,
        StatusCode::CREATED,
        "the slots are free"
    );

    let started = world.book(&token, &desks[0], "14:00", "16:00").await;
    world.clock.set_ms(START_MS + 29 * 3_600_000);
    let token = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let uri = format!(
        "/api/v1/bookings/{}",
        started.body["id"].as_str().expect("an id")
    );
    world
        .send(post(&format!("{uri}/cancel")).token(&token))
        .await
        .is_problem(409, "already_started");
    let later = json!({"starts_at": at("18:00")});
    world
        .send(patch(&uri).token(&token).json(&later))
        .await
        .is_problem(409, "already_started");
}

#[tokio::test]
async fn the_history_is_paged_newest_first_and_filtered_by_status() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let mut ids = Vec::new();
    for hour in 9..14 {
        let answer = world
            .book(
                &token,
                &desks[0],
                &format!("{hour:02}:00"),
                &format!("{:02}:00", hour + 1),
            )
            .await;
        ids.push(answer.body["id"].as_str().expect("an id").to_owned());
    }
    ids.reverse();
    world
        .send(post(&format!("/api/v1/bookings/{}/cancel", ids[1])).token(&token))
        .await;

    let mut seen = Vec::new();
    let mut uri = "/api/v1/bookings?limit=2".to_owned();
    loop {
        let page = world.send(get(&uri).token(&token)).await.body;
        let items = page["items"].as_array().expect("items");
        assert!(items.len() <= 2);
        seen.extend(
            items
                .iter()
                .map(|item| item["id"].as_str().expect("an id").to_owned()),
        );
        let Some(cursor) = page["next_cursor"].as_str() else {
            break;
        };
        uri = format!("/api/v1/bookings?limit=2&cursor={cursor}");
    }
    assert_eq!(seen, ids);
    let count = async |status: &str, token: &str| {
        let uri = format!("/api/v1/bookings?status={status}");
        world.send(get(&uri).token(token)).await.body["items"]
            .as_array()
            .map(Vec::len)
    };
    assert_eq!(count("active", &token).await, Some(4));
    assert_eq!(count("cancelled", &token).await, Some(1));
    assert_eq!(count("past", &token).await, Some(0));
    world.clock.set_ms(START_MS + 48 * 3_600_000);
    let token = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    assert_eq!(count("past", &token).await, Some(4));
    assert_eq!(count("active", &token).await, Some(0));
}

#[tokio::test]
async fn the_same_key_gets_the_same_answer() {
    let world = World::furnished().await;
    let (anna, boris) = (
        world.member("anna@example.com").await,
        world.member("boris@example.com").await,
    );
    let desks = world.desks().await;
    let book = |token: &str, desk: &str| {
        post("/api/v1/bookings")
            .token(token)
            .key("k-1")
            .json(&booking(desk, "10:00", "11:00"))
    };
    let first = world.send(book(&anna, &desks[0])).await;
    assert_eq!(first.status, StatusCode::CREATED);
    let state = world.replica.digest();
    let again = world.send(book(&anna, &desks[0])).await;
    assert_eq!(
        (again.status, &again.body, again.index()),
        (StatusCode::CREATED, &first.body, first.index())
    );
    assert_eq!(world.replica.digest(), state, "nothing was applied twice");
    // Neither the order of members nor white space makes another request of it.
    let respaced = format!(
        "{{ \"ends_at\": \"{}\",\n \"starts_at\": \"{}\", \"desk\": \"{}\" }}",
        at("11:00"),
        at("10:00"),
        desks[0]
    );
    let respaced = world
        .send(
            post("/api/v1/bookings")
                .token(&anna)
                .key("k-1")
                .body(respaced.as_bytes()),
        )
        .await;
    assert_eq!(respaced.body, first.body);
    world
        .send(book(&anna, &desks[1]))
        .await
        .is_problem(422, "idempotency_key_reused");
    let elsewhere = post(&format!(
        "/api/v1/bookings/{}/cancel",
        first.body["id"].as_str().expect("an id")
    ))
    .token(&anna)
    .key("k-1");
    world
        .send(elsewhere)
        .await
        .is_problem(422, "idempotency_key_reused");
    // Another user's key is another key; and a refusal is remembered like any answer.
    let refused = world.send(book(&boris, &desks[0])).await;
    refused.is_problem(409, "slot_taken");
    let cancel = post(&format!(
        "/api/v1/bookings/{}/cancel",
        first.body["id"].as_str().expect("an id")
    ))
    .token(&anna);
    world.send(cancel).await;
    world
        .send(book(&boris, &desks[0]))
        .await
        .is_problem(409, "slot_taken");
    assert_eq!(
        world.book(&boris, &desks[0], "10:00", "11:00").await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_lost_answer_is_unknown_and_the_same_key_finds_out() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let book = || {
        post("/api/v1/bookings")
            .token(&token)
            .key("k-7")
            .json(&booking(&desks[0], "10:00", "11:00"))
    };
    world.fail(Some(Fault::AnswerLost));
    let lost = world.send(book()).await;
    lost.is_problem(503, "outcome_unknown");
    assert_eq!(
        (&lost.body["outcome"], &lost.body["retryable"]),
        (&json!("unknown"), &json!(true))
    );
    world.fail(None);
    let found = world.send(book()).await;
    assert_eq!(found.status, StatusCode::CREATED, "{found:?}");
    let items = world.send(get("/api/v1/bookings").token(&token)).await.body;
    assert_eq!(
        items["items"].as_array().map(Vec::len),
        Some(1),
        "booked once"
    );

    world.fail(Some(Fault::CommandLost));
    let lost = post("/api/v1/bookings")
        .token(&token)
        .key("k-8")
        .json(&booking(&desks[0], "12:00", "13:00"));
    world
        .send(lost.clone())
        .await
        .is_problem(503, "outcome_unknown");
    world.fail(None);
    assert_eq!(world.send(lost).await.status, StatusCode::CREATED);

    world.fail(Some(Fault::Overloaded));
    let answer = world.book(&token, &desks[0], "14:00", "15:00").await;
    answer.is_problem(503, "overloaded");
    assert_eq!(
        (answer.header("retry-after"), &answer.body["outcome"]),
        ("1", &json!("not_applied"))
    );
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_even_if_it_could_not_be_asked_any_more() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let booked = world.book(&token, &desks[0], "10:00", "11:00").await;
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );
    let lengthen = |key: &str, to: &str| {
        patch(&uri)
            .token(&token)
            .key(key)
            .json(&json!({"ends_at": at(to)}))
    };
    let first = world.send(lengthen("longer", "12:00")).await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    let later = json!({"starts_at": at("15:00"), "ends_at": at("16:00")});
    let later = world.send(patch(&uri).token(&token).json(&later)).await;
    assert_eq!(later.status, StatusCode::OK, "{later:?}");

    // It would end before it starts by now.
    let again = world.send(lengthen("longer", "12:00")).await;
    assert_eq!(
        (again.status, &again.body, again.index()),
        (StatusCode::OK, &first.body, first.index())
    );
    let other = world.send(lengthen("longer", "11:00")).await;
    other.is_problem(422, "idempotency_key_reused");
    let fresh = world.send(lengthen("fresh", "12:00")).await;
    fresh.is_problem(422, "invalid_fields");
}

#[tokio::test]
async fn a_retry_gets_the_first_answer_though_rights_or_people_are_gone() {
    let world = World::furnished().await;
    let anna = world.member("anna@example.com").await;
    let boss = world.admin("boss@example.com").await;
    let desks = world.desks().await;
    let booked = world.book(&anna, &desks[0], "10:00", "11:00").await;
    let uri = format!(
        "/api/v1/bookings/{}",
        booked.body["id"].as_str().expect("an id")
    );
    let move_it = patch(&uri)
        .token(&boss)
        .key("move")
        .json(&json!({"desk": desks[1]}));
    let import = json!({"space": "nevsky", "bookings":
        [{"user": "anna@example.com", "desk": desks[2], "starts_at": at("15:00")}]});
    let import = post("/api/v1/admin/bookings/import")
        .token(OPERATOR)
        .key("import")
        .json(&import);
    let moved = world.send(move_it.clone()).await;
    assert_eq!(moved.status, StatusCode::OK, "{moved:?}");
    let imported = world.send(import.clone()).await;
    assert_eq!(imported.body["accepted"], 1, "{imported:?}");

    let demote = put("/api/v1/admin/users/boss@example.com/role")
        .token(OPERATOR)
        .json(&json!({"role": "member"}));
    assert_eq!(world.send(demote).await.status, StatusCode::OK);
    let erased = world.send(delete("/api/v1/me").token(&anna)).await;
    assert_eq!(erased.status, StatusCode::NO_CONTENT, "{erased:?}");
    let again = world.send(move_it).await;
    assert_eq!((again.status, &again.body), (StatusCode::OK, &moved.body));
    let again = world.send(import).await;
    assert_eq!(
        (again.status, &again.body),
        (StatusCode::OK, &imported.body)
    );
}

#[tokio::test]
async fn bookings_are_brought_in_by_the_page() {
    let world = World::furnished().await;
    world.register("anna@example.com").await;
    let desks = world.desks().await;
    let row = |desk: &str, starts_at: &str| json!({"user": "anna@example.com", "desk": desk, "starts_at": starts_at});
    let rows = [
        row(&desks[0], "2026-02-02T10:00:00+03:00"),
        row(&desks[1], "2026-02-02T10:00:00+03:00"),
        row(&desks[1], "2026-02-03T10:00:00+03:00"),
    ];
    let page = post("/api/v1/admin/bookings/import")
        .token(OPERATOR)
        .json(&json!({"space": "nevsky", "bookings": rows}));
    let answer = world.send(page).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    assert_eq!(
        (&answer.body["accepted"], &answer.body["refused"]),
        (&json!(2), &json!(1))
    );
    assert_eq!(
        answer.body["first_refusals"],
        json!([{"row": 1, "code": "user_already_booked"}])
    );
    let token = world.sign_in("anna@example.com").await["access_token"]
        .as_str()
        .expect("a token")
        .to_owned();
    let past = world
        .send(get("/api/v1/bookings?status=past").token(&token))
        .await
        .body;
    assert_eq!(past["items"].as_array().map(Vec::len), Some(2));
    let off = post("/api/v1/admin/bookings/import").token(OPERATOR).json(
        &json!({"space": "nevsky", "bookings": [row(&desks[0], "2026-02-04T10:30:00+03:00")]}),
    );
    let answer = world.send(off).await;
    answer.is_problem(422, "invalid_fields");
    assert_eq!(answer.body["errors"][0]["code"], "off_grid");
    assert_eq!(answer.body["errors"][0]["pointer"], "/bookings/0/starts_at");
}

/// Keeps the list of what a booking is in step with the contract.
#[tokio::test]
async fn a_booking_has_the_members_of_the_contract() {
    let world = World::furnished().await;
    let token = world.member("anna@example.com").await;
    let desks = world.desks().await;
    let body = world.book(&token, &desks[0], "10:00", "11:00").await.body;
    for member in [
        "id",
        "space",
        "hall",
        "desk",
        "desk_label",
        "user",
        "starts_at",
        "ends_at",
        "time_zone",
        "status",
        "created_at",
        "cancelled_at",
        "group",
        "series",
        "version",
        "index",
    ] {
        assert!(body.get(member).is_some(), "{member}");
    }
}
