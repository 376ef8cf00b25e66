//! Bad input of every kind we could think of: each gets its documented problem, nothing changes, and never a 5xx.

use serde_json::{Value, json};

use crate::api_world::{
    Answer, Call, OPERATOR, PASSWORD, World, at, booking, delete, get, nevsky, other, patch, post,
    put,
};

/// What the bad requests are made from.
struct Stage {
    world: World,
    token: String,
    desk: String,
    booking: String,
}

/// One kind of bad input: what it is, the request, and the status and code that it must get.
struct Kind {
    name: &'static str,
    call: Call,
    status: u16,
    code: &'static str,
    /// The pointer of the first field error, where the field matters.
    pointer: Option<&'static str>,
}

fn kind(name: &'static str, call: Call, status: u16, code: &'static str) -> Kind {
    Kind {
        name,
        call,
        status,
        code,
        pointer: None,
    }
}

fn field(name: &'static str, call: Call, pointer: &'static str) -> Kind {
    Kind {
        name,
        call,
        status: 422,
        code: "invalid_fields",
        pointer: Some(pointer),
    }
}

impl Stage {
    async fn set() -> Self {
        let world = World::furnished().await;
        let token = world.member("anna@example.com").await;
        let desk = world.desks().await[0].clone();
        let booked = world.book(&token, &desk, "18:00", "20:00").await;
        let booking = booked.body["id"].as_str().expect("an id").to_owned();
        Self {
            world,
            token,
            desk,
            booking,
        }
    }

    fn book(&self) -> Call {
        post("/api/v1/bookings").token(&self.token)
    }

    fn change(&self) -> Call {
        patch(&format!("/api/v1/bookings/{}", self.booking)).token(&self.token)
    }

    fn good(&self) -> Value {
        booking(&self.desk, "10:00", "11:00")
    }

    /// A good booking with one member changed.
    fn with(&self, member: &str, value: impl Into<Value>) -> Value {
        let mut body = self.good();
        body[member] = value.into();
        body
    }

    fn without(&self, member: &str) -> Value {
        let mut body = self.good();
        body.as_object_mut().expect("an object").remove(member);
        body
    }
}

fn register(body: &Value) -> Call {
    post("/api/v1/users").json(body)
}

fn put_space(change: impl FnOnce(&mut Value)) -> Call {
    let mut document = nevsky();
    change(&mut document);
    put("/api/v1/admin/spaces/nevsky")
        .token(OPERATOR)
        .json(&document)
}

/// Bodies that are not JSON, or not the JSON that is wanted.
fn bodies(stage: &Stage) -> Vec<Kind> {
    let book = || stage.book();
    let good = stage.good().to_string();
    let duplicate = format!("{{\"desk\":\"a\",{}", &good[1..]);
    let deep = format!("{{\"desk\":{}1{}}}", "[".repeat(5_000), "]".repeat(5_000));
    let long = json!({"desk": "d".repeat(70_000), "starts_at": at("10:00")});
    vec![
        kind("an empty body", book().body(b""), 400, "malformed_json"),
        kind(
            "a body cut in the middle",
            book().body(b"{\"desk\": \"ds"),
            400,
            "malformed_json",
        ),
        kind(
            "text",
            book().body(b"a desk, please"),
            400,
            "malformed_json",
        ),
        kind(
            "a trailing comma",
            book().body(b"{\"desk\": \"x\",}"),
            400,
            "malformed_json",
        ),
        kind(
            "single quotes",
            book().body(b"{'desk': 'x'}"),
            400,
            "malformed_json",
        ),
        kind(
            "two documents",
            book().body(format!("{good}{good}").as_bytes()),
            400,
            "malformed_json",
        ),
        kind(
            "bytes that are not UTF-8",
            book().body(b"{\"desk\": \"\xff\xfe\"}"),
            400,
            "malformed_json",
        ),
        kind(
            "half a surrogate",
            book().body(b"{\"desk\": \"\\ud800\"}"),
            400,
            "malformed_json",
        ),
        kind(
            "a control character in a text",
            book().body(b"{\"desk\": \"a\x01b\"}"),
            400,
            "malformed_json",
        ),
        kind(
            "a number that is none",
            book().body(b"{\"desk\": NaN}"),
            400,
            "malformed_json",
        ),
        kind(
            "a nesting without end",
            book().body(deep.as_bytes()),
            422,
            "invalid_fields",
        ),
        kind(
            "a list for an object",
            book().json(&json!([1, 2])),
            422,
            "invalid_fields",
        ),
        kind(
            "null for an object",
            book().json(&Value::Null),
            422,
            "invalid_fields",
        ),
        kind(
            "a text for an object",
            book().json(&json!("desk")),
            422,
            "invalid_fields",
        ),
        field("a member twice", book().body(duplicate.as_bytes()), "/desk"),
        field(
            "an unknown member",
            book().json(&stage.with("colour", "red")),
            "/colour",
        ),
        field(
            "an unknown member with a slash",
            book().json(&stage.with("a/b~c", 1)),
            "/a~1b~0c",
        ),
        field(
            "a missing member",
            book().json(&stage.without("desk")),
            "/desk",
        ),
        field(
            "a number for a text",
            book().json(&stage.with("desk", 7)),
            "/desk",
        ),
        field(
            "an object for a text",
            book().json(&stage.with("starts_at", json!({}))),
            "/starts_at",
        ),
        kind(
            "a body that is too long",
            book().json(&long),
            413,
            "payload_too_large",
        ),
        kind(
            "no content type",
            book().bare_body(good.as_bytes()),
            415,
            "unsupported_media_type",
        ),
        kind(
            "a form",
            book()
                .header("content-type", "application/x-www-form-urlencoded")
                .bare_body(b"desk=1"),
            415,
            "unsupported_media_type",
        ),
        kind(
            "a body where none is taken",
            delete("/api/v1/sessions")
                .token(&stage.token)
                .json(&json!([1])),
            422,
            "invalid_fields",
        ),
        field(
            "members where none are taken",
            post(&format!("/api/v1/bookings/{}/cancel", stage.booking))
                .token(&stage.token)
                .json(&json!({"reason": "rain"})),
            "/reason",
        ),
    ]
}

/// Members of the right type with a wrong value.
fn values(stage: &Stage) -> Vec<Kind> {
    let book = |body: &Value| stage.book().json(body);
    let at_start = |text: &str| book(&stage.with("starts_at", text));
    let user = |member: &str, value: Value| {
        let mut body = json!({"email": "new@example.com", "password": PASSWORD});
        body[member] = value;
        register(&body)
    };
    vec![
        field(
            "an id of another kind",
            book(&stage.with("desk", stage.booking.clone())),
            "/desk",
        ),
        field(
            "an id in capitals",
            book(&stage.with("desk", stage.desk.to_uppercase())),
            "/desk",
        ),
        field("an empty id", book(&stage.with("desk", "")), "/desk"),
        field(
            "a user that is no id",
            book(&stage.with("user", "anna")),
            "/user",
        ),
        field(
            "a time without an offset",
            at_start("2026-03-03T10:00:00"),
            "/starts_at",
        ),
        field("a date for a time", at_start("2026-03-03"), "/starts_at"),
        field(
            "a day that does not exist",
            at_start("2026-02-30T10:00:00Z"),
            "/starts_at",
        ),
        field(
            "an hour that does not exist",
            at_start("2026-03-03T24:30:00Z"),
            "/starts_at",
        ),
        field(
            "half a second",
            at_start("2026-03-03T10:00:00.5+03:00"),
            "/starts_at",
        ),
        field(
            "a time before 1970",
            at_start("1969-12-31T23:00:00Z"),
            "/starts_at",
        ),
        field(
            "a time beyond 9999",
            at_start("+12026-03-03T10:00:00Z"),
            "/starts_at",
        ),
        field("seconds since 1970", at_start("1772521200"), "/starts_at"),
        field(
            "an end before the start",
            book(&booking(&stage.desk, "11:00", "10:00")),
            "/ends_at",
        ),
        field(
            "an end at the start",
            book(&booking(&stage.desk, "10:00", "10:00")),
            "/ends_at",
        ),
        kind(
            "times off the grid",
            book(&booking(&stage.desk, "10:15", "11:15")),
            422,
            "off_grid",
        ),
        kind(
            "a year that is far away",
            at_start("9999-12-31T23:00:00Z").clone(),
            422,
            "invalid_fields",
        ),
        field("a change of nothing", stage.change().json(&json!({})), ""),
        field(
            "an e-mail without an at",
            user("email", json!("anna.example.com")),
            "/email",
        ),
        field(
            "an e-mail with a line break",
            user("email", json!("a@example.com\nbcc: b@example.com")),
            "/email",
        ),
        field(
            "an e-mail that is too long",
            user("email", json!(format!("{}@example.com", "a".repeat(300)))),
            "/email",
        ),
        field(
            "a password that is too short",
            user("password", json!("short")),
            "/password",
        ),
        field(
            "a password that is too long",
            user("password", json!("p".repeat(129))),
            "/password",
        ),
        field(
            "a name of nothing",
            user("display_name", json!("  ")),
            "/display_name",
        ),
        field(
            "a name that is too long",
            user("display_name", json!("n".repeat(101))),
            "/display_name",
        ),
        field(
            "a name that turns the text around",
            user("display_name", json!("a\u{202e}b")),
            "/display_name",
        ),
        field(
            "a name with a zero byte",
            user("display_name", json!("a\u{0}b")),
            "/display_name",
        ),
        field(
            "a role that a stranger gives himself",
            user("role", json!("admin")),
            "/role",
        ),
        field(
            "a space in a zone that does not exist",
            put_space(|space| space["time_zone"] = "Mars/Base".into()),
            "/time_zone",
        ),
        field(
            "a slot of seven minutes",
            put_space(|space| space["slot_minutes"] = 7.into()),
            "/slot_minutes",
        ),
        field(
            "a number that is too large",
            put_space(|space| space["slot_minutes"] = 70_000.into()),
            "/slot_minutes",
        ),
        field(
            "a negative number",
            put_space(|space| space["rules"]["days_ahead"] = (-1).into()),
            "/rules/days_ahead",
        ),
        field(
            "a broken number",
            put_space(|space| space["halls"][0]["plan"]["width"] = 1.5.into()),
            "/halls/0/plan/width",
        ),
        field(
            "a day of the week that does not exist",
            put_space(|space| space["opening_hours"]["funday"] = json!([])),
            "/opening_hours",
        ),
        field(
            "hours that close before they open",
            put_space(|space| space["opening_hours"]["mon"] = json!([["22:00", "08:00"]])),
            "/opening_hours/mon/0",
        ),
        field(
            "an unknown member deep inside",
            put_space(|space| space["halls"][0]["desks"][0]["colour"] = "red".into()),
            "/halls/0/desks/0/colour",
        ),
        field(
            "a label twice",
            put_space(|space| space["halls"][0]["desks"][1]["label"] = "A-1".into()),
            "/halls/0/desks/1/label",
        ),
        field(
            "the slug of another space",
            put_space(|space| space["slug"] = "arbat".into()),
            "/slug",
        ),
        field(
            "a role that does not exist",
            put("/api/v1/admin/users/anna@example.com/role")
                .token(OPERATOR)
                .json(&json!({"role": "owner"})),
            "/role",
        ),
        field(
            "an import of nothing",
            post("/api/v1/admin/bookings/import")
                .token(OPERATOR)
                .json(&json!({"space": "nevsky", "bookings": []})),
            "/bookings",
        ),
    ]
}

/// Paths, methods, queries and headers.
fn frames(stage: &Stage) -> Vec<Kind> {
    let token = stage.token.as_str();
    let list = |query: &str| get(&format!("/api/v1/bookings?{query}")).token(token);
    let free = |query: &str| get(&format!("/api/v1/spaces/nevsky/availability?{query}"));
    let book = || stage.book().json(&stage.good());
    let query = |name, call| kind(name, call, 400, "invalid_query");
    let header = |name, call| kind(name, call, 400, "invalid_header");
    vec![
        kind(
            "a path that does not exist",
            get("/api/v1/nothing"),
            404,
            "not_found",
        ),
        kind(
            "a path that climbs",
            get("/api/v1/../../etc/passwd"),
            404,
            "not_found",
        ),
        kind(
            "an id in a path that is none",
            get("/api/v1/bookings/17").token(token),
            404,
            "not_found",
        ),
        kind(
            "bytes in a path that are not UTF-8",
            get("/api/v1/spaces/%ff%fe"),
            404,
            "not_found",
        ),
        kind(
            "a zero byte in a path",
            get("/api/v1/spaces/a%00b"),
            404,
            "not_found",
        ),
        kind(
            "a method that the path does not take",
            put("/api/v1/bookings").token(token),
            405,
            "method_not_allowed",
        ),
        kind(
            "a method that nobody knows",
            other("BREW", "/api/v1/spaces"),
            405,
            "method_not_allowed",
        ),
        kind(
            "TRACE",
            other("TRACE", "/api/v1/spaces"),
            405,
            "method_not_allowed",
        ),
        kind(
            "a preflight from elsewhere",
            other("OPTIONS", "/api/v1/spaces").header("origin", "https://elsewhere.example"),
            405,
            "method_not_allowed",
        ),
        kind(
            "an address that is too long",
            get(&format!("/api/v1/spaces?cursor={}", "x".repeat(5_000))),
            414,
            "uri_too_long",
        ),
        query("an unknown parameter", list("colour=red")),
        query("a parameter twice", list("limit=1&limit=2")),
        query("a limit of nothing", list("limit=0")),
        query("a limit beyond the most", list("limit=101")),
        query("a limit that is no number", list("limit=ten")),
        query("a negative limit", list("limit=-1")),
        query("a status that does not exist", list("status=lost")),
        query(
            "a consistency that does not exist",
            list("consistency=eventual"),
        ),
        query(
            "a bound on staleness without local",
            list("max_staleness_ms=5"),
        ),
        query(
            "a query on a write",
            post("/api/v1/bookings?dry_run=1")
                .token(token)
                .json(&stage.good()),
        ),
        query("no date", free("from=09:00")),
        query("a date that does not exist", free("date=2026-02-30")),
        query("a date in words", free("date=tomorrow")),
        query(
            "a time that does not exist",
            free("date=2026-03-03&from=25:00"),
        ),
        query(
            "a time after the end",
            free("date=2026-03-03&from=12:00&to=09:00"),
        ),
        query(
            "a feature that is no name",
            free("date=2026-03-03&feature=%3Cscript%3E"),
        ),
        query("a hall without a name", free("date=2026-03-03&hall=")),
        kind(
            "a cursor that was made up",
            list("cursor=page2"),
            400,
            "invalid_cursor",
        ),
        header("an empty key", book().key("")),
        header("a key with a space", book().key("a b")),
        header("a key that is too long", book().key(&"k".repeat(256))),
        header(
            "a key that is not ASCII",
            book().raw_header("idempotency-key", "ключ".as_bytes()),
        ),
        header("two keys", book().key("a").key("b")),
        header(
            "a version without quotes",
            stage
                .change()
                .header("if-match", "v1")
                .json(&json!({"starts_at": at("12:00")})),
        ),
        header(
            "two versions",
            stage
                .change()
                .header("if-match", "\"v1\", \"v2\"")
                .json(&json!({"starts_at": at("12:00")})),
        ),
        header(
            "an index that is no number",
            get("/api/v1/spaces").header("mesto-min-index", "latest"),
        ),
        header(
            "a negative index",
            get("/api/v1/spaces").header("mesto-min-index", "-1"),
        ),
        header(
            "an index beyond all numbers",
            get("/api/v1/spaces").header("mesto-min-index", "99999999999999999999999"),
        ),
        header(
            "an event id that is no number",
            get("/api/v1/spaces/nevsky/events").header("last-event-id", "abc"),
        ),
        kind(
            "a version that nobody has seen",
            stage
                .change()
                .header("if-match", "\"v9\"")
                .json(&json!({"starts_at": at("12:00")})),
            412,
            "version_mismatch",
        ),
        kind(
            "a tag of someone else's",
            stage
                .change()
                .header("if-match", "\"abc\"")
                .json(&json!({"starts_at": at("12:00")})),
            412,
            "version_mismatch",
        ),
    ]
}

/// Tokens that are none.
fn tokens(stage: &Stage) -> Vec<Kind> {
    let me = |value: &str| get("/api/v1/me").header("authorization", value);
    let refused = |name, call| kind(name, call, 401, "unauthenticated");
    let parts: Vec<&str> = stage.token.split('.').collect();
    let unsigned = format!("{}.{}.", parts[0], parts[1]);
    let swapped = format!("{}.{}.{}", parts[0], parts[0], parts[2]);
    let refresh =
        |text: &str| post("/api/v1/sessions/refresh").json(&json!({"refresh_token": text}));
    vec![
        refused("no token", get("/api/v1/me")),
        refused("a token that is none", me("Bearer abc")),
        refused("another scheme", me("Basic YW5uYTpwYXNz")),
        refused("a scheme alone", me("Bearer")),
        refused(
            "two tokens",
            me(&format!("Bearer {} {}", stage.token, stage.token)),
        ),
        refused(
            "a token without its signature",
            me(&format!("Bearer {unsigned}")),
        ),
        refused(
            "a token with other claims",
            me(&format!("Bearer {swapped}")),
        ),
        refused(
            "a token that is very long",
            me(&format!("Bearer {}", "a".repeat(3_000))),
        ),
        refused(
            "the operator's token where a person is wanted",
            me(&format!("Bearer {OPERATOR}")),
        ),
        refused(
            "a bad token where none is needed",
            get("/api/v1/spaces").token("abc"),
        ),
        refused(
            "an almost right operator's token",
            get("/api/v1/cluster").token(&OPERATOR[1..]),
        ),
        kind(
            "a member where an administrator is wanted",
            get("/api/v1/cluster").token(&stage.token),
            403,
            "forbidden",
        ),
        kind(
            "a refresh token that is none",
            refresh("abc"),
            401,
            "session_unknown",
        ),
        kind(
            "a refresh token that nobody has",
            refresh(&"A".repeat(43)),
            401,
            "session_unknown",
        ),
        kind(
            "an access token to refresh with",
            refresh(&stage.token),
            401,
            "session_unknown",
        ),
    ]
}

fn check(kind: &Kind, answer: &Answer) -> Result<(), String> {
    let code = answer.body["code"].as_str().unwrap_or("none");
    if (answer.status.as_u16(), code) != (kind.status, kind.code) {
        return Err(format!(
            "{} wants {} {}, got {answer:?}",
            kind.name, kind.status, kind.code
        ));
    }
    let pointer = answer.body["errors"][0]["pointer"].as_str();
    if kind.pointer.is_some() && pointer != kind.pointer {
        return Err(format!(
            "{} points at {pointer:?}, not at {:?}: {answer:?}",
            kind.name, kind.pointer
        ));
    }
    if kind.status == 405 && answer.header("allow").is_empty() {
        return Err(format!("{} does not say what is allowed", kind.name));
    }
    Ok(())
}

#[tokio::test]
async fn bad_input_gets_its_problem_and_changes_nothing() {
    let stage = Stage::set().await;
    let kinds: Vec<Kind> = [
        bodies(&stage),
        values(&stage),
        frames(&stage),
        tokens(&stage),
    ]
    .into_iter()
    .flatten()
    .collect();
    assert!(kinds.len() >= 60, "only {} kinds", kinds.len());
    let before = stage.world.state();
    let mut failures = Vec::new();
    for kind in &kinds {
        let digest = stage.world.replica.digest();
        let answer = stage.world.send(kind.call.clone()).await;
        assert!(
            !answer.status.is_server_error(),
            "{}: {answer:?}",
            kind.name
        );
        answer.is_problem(
            answer.status.as_u16(),
            answer.body["code"].as_str().unwrap_or("none"),
        );
        failures.extend(check(kind, &answer).err());
        let reached_the_log =
            ["off_grid", "version_mismatch", "session_unknown"].contains(&kind.code);
        if !reached_the_log && stage.world.replica.digest() != digest {
            failures.push(format!("{} reached the log", kind.name));
        }
        if stage.world.state() != before {
            failures.push(format!("{} changed the state", kind.name));
            break;
        }
    }
    assert!(
        failures.is_empty(),
        "{} of {} kinds:\n{}",
        failures.len(),
        kinds.len(),
        failures.join("\n")
    );
}

/// The check above is worth something only if good input passes the same door.
#[tokio::test]
async fn the_good_request_beside_the_bad_ones_is_taken() {
    let stage = Stage::set().await;
    let before = stage.world.state();
    let answer = stage.world.send(stage.book().json(&stage.good())).await;
    assert!(answer.status.is_success(), "{answer:?}");
    assert_ne!(stage.world.state(), before);
    let wrong = kind(
        "a good request",
        stage.book().json(&stage.good()),
        400,
        "malformed_json",
    );
    assert!(check(&wrong, &answer).is_err());
}
