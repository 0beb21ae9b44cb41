//! What goes into the lists comes out of them: changes through the views, routes through the drafts.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use super::sample::Owned;
use super::*;
use crate::{Change, Configured, Delivery, Masks, Notify, Operation, Routes, Row, Settings, Time, Value};

const COLUMNS: [&str; 3] = ["id", "status", "note"];

fn any_value() -> impl Strategy<Value = Owned> {
    prop_oneof![
        Just(Owned::Plain(Value::Null)),
        Just(Owned::Plain(Value::Unchanged)),
        Just(Owned::Plain(Value::Masked)),
        any::<bool>().prop_map(|value| Owned::Plain(Value::Boolean(value))),
        any::<i64>().prop_map(|value| Owned::Plain(Value::Integer(value))),
        any::<f64>().prop_map(|value| Owned::Plain(Value::Float(value))),
        ".*".prop_map(Owned::Text),
        vec(any::<u8>(), 0..20).prop_map(Owned::Bytes),
    ]
}

fn any_row() -> impl Strategy<Value = sample::Columns> {
    vec(any_value(), COLUMNS.len())
        .prop_map(|values| COLUMNS.map(str::to_owned).into_iter().zip(values).collect())
}

fn any_sample() -> impl Strategy<Value = Sample> {
    let names = prop::sample::select(vec!["orders", "users", "unseen"]);
    let about = (names, option::of("[0-9]{1,5}"), any::<i64>(), any::<[bool; 2]>(), any::<i64>());
    (prop::sample::select(Operation::ALL.to_vec()), about, any_row(), any_row(), any::<bool>()).prop_map(
        |(operation, (table, transaction, index, [last, replay], micros), row, old, has_old)| {
            let mut sample =
                Sample { operation, transaction, index, last, replay, ..Sample::truncate(table) }
                    .committed_at(Time::from_micros(micros))
                    .key(["id"]);
            let has_row = !matches!(operation, Operation::Delete | Operation::Truncate | Operation::Schema);
            sample.row = has_row.then_some(row);
            let has_old = operation == Operation::Delete || (operation == Operation::Update && has_old);
            sample.old = has_old.then_some(old);
            sample
        },
    )
}

fn subscriptions() -> Vec<Subscription> {
    let about = [
        "$key",
        "$table",
        "$schema",
        "$source",
        "$transaction",
        "$position",
        "$index",
        "$last",
        "$replay",
        "$row",
        "$old",
    ];
    vec![
        Subscription::table("users").columns(["note", "$key", "$old"]),
        Subscription::table("orders").columns(about.into_iter().chain(COLUMNS)),
    ]
}

/// Bit for bit, so that no number differs from itself.
fn same(value: Value<'_>, expected: Value<'_>) -> bool {
    match (value, expected) {
        (Value::Float(value), Value::Float(expected)) => value.to_bits() == expected.to_bits(),
        _ => value == expected,
    }
}

fn check_row(row: Option<Row<'_>>, expected: Option<&sample::Columns>) -> Result<(), TestCaseError> {
    prop_assert_eq!(row.is_some(), expected.is_some());
    if let (Some(row), Some(expected)) = (row, expected) {
        for column in COLUMNS.into_iter().filter(|column| row.get(column).is_some()) {
            prop_assert!(same(row.value(column), sample::value(expected, column)), "{}", column);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_change_is_seen_as_it_was_written(samples in vec(any_sample(), 0..20)) {
        let subscriptions = subscriptions();
        let batch = lower::lower(&samples, &subscriptions);
        let seen = samples.iter().filter(|sample| sample.table != "unseen").count();
        prop_assert_eq!(batch.samples.len(), seen);
        for (index, sample) in batch.samples.iter().enumerate() {
            let (sample, change) = (&samples[*sample], Change::new(&batch.cells, &subscriptions, index));
            prop_assert_eq!(change.operation(), sample.operation);
            prop_assert_eq!(change.committed_at(), sample.committed_at);
            let key = sample.key_text();
            prop_assert_eq!(change.key(), key.as_deref());
            check_row(change.row(), sample.row.as_ref())?;
            check_row(change.old(), sample.old.as_ref())?;
            if sample.table == "orders" {
                prop_assert_eq!(change.subscription(), 1);
                prop_assert_eq!(change.table(), "orders");
                prop_assert_eq!(change.schema(), "public");
                prop_assert_eq!(change.source(), "main");
                prop_assert_eq!(change.transaction(), sample.transaction.as_deref());
                prop_assert_eq!(change.position(), &sample.position);
                prop_assert_eq!((change.index(), change.is_last()), (sample.index, sample.last));
                prop_assert_eq!(change.is_replay(), sample.replay);
                prop_assert_eq!(change.row_json().is_some(), sample.row.is_some());
                prop_assert_eq!(change.old_json().is_some(), sample.old.is_some());
            }
        }
    }

    #[test]
    fn any_route_is_read_as_it_was_written(written in vec((0_usize..3, vec(any_route(), 0..4)), 0..4)) {
        let mut routes = Routes::for_batch(1);
        let mut expected = Vec::new();
        let mut change = 0;
        for (step, of_change) in written {
            change += step;
            routes.begin(change, Time::default());
            for route in of_change {
                write(&mut routes, &route);
                expected.push((change, route));
            }
        }
        prop_assert_eq!(route::read(&routes.into_outcome(), change + 1), Ok(expected));
    }
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        Just(Payload::Row),
        Just(Payload::Envelope),
        Just(Payload::Nothing),
        ".*".prop_map(Payload::Json),
        ".*".prop_map(Payload::Text),
        vec(any::<u8>(), 0..20).prop_map(Payload::Bytes),
    ]
}

fn any_route() -> impl Strategy<Value = Route> {
    let name = || ".{1,8}";
    let word = |word: &str| proptest::string::string_regex(word).expect("a regular expression");
    let time = || any::<i64>().prop_map(Time::from_micros);
    let keep = prop::sample::select(vec![Keep::History, Keep::LiveOnly, Keep::Retained, Keep::Forget]);
    prop_oneof![
        (word(r"\PC{1,8}"), word(r"\PC{0,8}"), any_payload(), keep)
            .prop_map(|(channel, event, payload, keep)| Route::Channel { channel, event, payload, keep }),
        (name(), name(), any_payload(), time()).prop_map(|(author, item, payload, time)| Route::Audience {
            author,
            item,
            payload,
            time
        }),
        (name(), name(), name(), any_payload(), time()).prop_map(|(user, author, item, payload, time)| {
            Route::Inbox { user, author, item, payload, time }
        }),
        (name(), name()).prop_map(|(author, item)| Route::Retract { author, item }),
        (name(), name()).prop_map(|(follower, followee)| Route::Follow { follower, followee }),
        (name(), name()).prop_map(|(follower, followee)| Route::Unfollow { follower, followee }),
        name().prop_map(|key| Route::Cache { key, reach: Reach::Key }),
        ".*".prop_map(|key| Route::Cache { key, reach: Reach::Prefix }),
        (name(), ".*", any_payload()).prop_map(|(topic, key, payload)| Route::Topic { topic, key, payload }),
        name().prop_map(|reason| Route::Reject { reason }),
    ]
}

/// Writes a route as a policy would.
fn write(routes: &mut Routes, route: &Route) {
    match route {
        Route::Channel { channel, event, payload, keep } => {
            let draft = routes.channel(channel).event(event);
            let draft = match keep {
                Keep::History => draft,
                Keep::LiveOnly => draft.live_only(),
                Keep::Retained => draft.retained(),
                Keep::Forget => draft.forget_retained(),
            };
            finish(draft, payload);
        }
        Route::Audience { author, item, payload, time } => {
            finish(routes.audience(author, item).at(*time), payload)
        }
        Route::Inbox { user, author, item, payload, time } => {
            finish(routes.inbox(user, author, item).at(*time), payload);
        }
        Route::Retract { author, item } => routes.retract(author, item),
        Route::Follow { follower, followee } => routes.follow(follower, followee),
        Route::Unfollow { follower, followee } => routes.unfollow(follower, followee),
        Route::Cache { key, reach: Reach::Key } => routes.cache(key),
        Route::Cache { key, reach: Reach::Prefix } => routes.cache_prefix(key),
        Route::Topic { topic, key, payload } => finish(routes.topic(topic).key(key), payload),
        Route::Reject { reason } => routes.reject(reason),
    }
}

fn finish<K>(draft: crate::Draft<'_, K>, payload: &Payload) {
    match payload {
        Payload::Row => draft.row(),
        Payload::Envelope => draft.envelope(),
        Payload::Nothing => draft.nothing(),
        Payload::Json(json) => draft.json(json),
        Payload::Text(text) => draft.text(text),
        Payload::Bytes(bytes) => draft.bytes(bytes),
    }
}

/// A policy that does with a change what its settings say.
struct Probe(String);

impl Plugin for Probe {
    fn configure(settings: &Settings) -> Configured<Self> {
        let subscription = Subscription::table("orders").columns(["id", "$key"]);
        Ok((Self(settings.required("does")?.to_owned()), vec![subscription]))
    }
}

impl Router for Probe {
    fn direct(&self, change: &Change<'_>, routes: &mut Routes) {
        match self.0.as_str() {
            "breaks a line" => routes.channel("orders").event("in\nsert").row(),
            "names no channel" => routes.channel("").row(),
            "reads what it did not ask for" => drop(change.row().map(|row| row.text("status"))),
            "reads a virtual column it did not ask for" => drop(change.table().len()),
            "drops a draft" => drop(routes.channel("orders")),
            "posts" => routes.audience("ann", change.key().unwrap_or_default()).nothing(),
            _ => routes.channel(["orders:", change.key().unwrap_or("?")]).event(change.operation()).row(),
        }
    }
}

fn probe(does: &str, sample: Sample) -> Vec<Route> {
    let policy = Policy::<Probe>::configure([("does", does)]).expect("configured");
    policy.direct(&[sample]).remove(0)
}

fn insert() -> Sample {
    Sample::insert("orders", crate::row! { "id" => 7, "status" => "new" }).key(["id"])
}

fn to(channel: &str, event: &str) -> Route {
    Route::Channel {
        channel: channel.to_owned(),
        event: event.to_owned(),
        payload: Payload::Row,
        keep: Keep::History,
    }
}

#[test]
fn samples_that_nobody_asked_for_have_no_routes_and_the_others_keep_their_places() {
    let policy = Policy::<Probe>::configure([("does", "route")]).expect("configured");
    let unseen = Sample::insert("users", crate::row! { "id" => 1 });
    let routes = policy.direct(&[unseen, insert()]);
    assert_eq!(routes, [vec![], vec![to("orders:7", "insert")]]);
}

#[test]
fn a_delete_has_its_key_and_no_row() {
    let delete = Sample::delete("orders", crate::row! { "id" => 7 }).key(["id"]);
    assert_eq!(probe("route", delete), [to("orders:7", "delete")]);
}

#[test]
fn a_truncate_has_no_key() {
    assert_eq!(probe("route", Sample::truncate("orders").key(["id"])), [to("orders:?", "truncate")]);
}

#[test]
fn a_key_of_several_columns_tells_a_comma_within_from_one_between() {
    let row = crate::row! { "a" => "x,y", "b" => "back\\slash" };
    let insert = Sample::insert("orders", row).key(["a", "b"]);
    assert_eq!(probe("route", insert), [to("orders:x\\,y,back\\\\slash", "insert")]);
}

#[test]
fn a_post_has_the_time_of_its_commit_unless_it_says_another() {
    let [Route::Audience { time, .. }] = &probe("posts", insert().committed_at(Time::from_micros(9)))[..]
    else {
        panic!("one post");
    };
    assert_eq!(*time, Time::from_micros(9));
}

#[test]
fn a_dropped_draft_leaves_no_route() {
    assert_eq!(probe("drops a draft", insert()), []);
}

#[test]
#[should_panic(
    expected = "a host would refuse the policy's answer: the route 0, of the change 0: its channel is empty"
)]
fn an_answer_that_a_host_refuses_fails_the_test() {
    drop(probe("names no channel", insert()));
}

#[test]
#[should_panic(expected = "its event has a control character")]
fn an_event_with_a_line_break_fails_the_test() {
    drop(probe("breaks a line", insert()));
}

#[test]
fn a_key_of_one_column_is_escaped_like_one_of_several() {
    let insert = Sample::insert("orders", crate::row! { "id" => "x,y" }).key(["id"]);
    assert_eq!(probe("route", insert), [to("orders:x\\,y", "insert")]);
}

#[test]
#[should_panic(expected = "does not ask for the column `status`, only for `id`, `$key`")]
fn reading_a_column_that_was_not_asked_for_panics() {
    drop(probe("reads what it did not ask for", insert()));
}

#[test]
#[should_panic(expected = "does not ask for the column `$table`")]
fn reading_a_virtual_column_that_was_not_asked_for_panics() {
    drop(probe("reads a virtual column it did not ask for", insert()));
}

/// Says of each order what its status says, and hides the columns that its note names.
struct Obedient;

impl Plugin for Obedient {
    fn configure(_: &Settings) -> Configured<Self> {
        Ok((Self, vec![Subscription::table("orders").columns(["status", "note"])]))
    }
}

impl Filter for Obedient {
    fn evaluate(&self, change: &Change<'_>, masks: &mut Masks<'_>) -> Verdict {
        let Some(row) = change.row() else { return Verdict::Keep };
        row.text("note").into_iter().flat_map(str::split_whitespace).for_each(|column| masks.hide(column));
        match row.text("status") {
            Some("drop") => Verdict::Drop,
            Some(reason) if reason != "keep" => Verdict::Reject(reason.to_owned()),
            _ => Verdict::Keep,
        }
    }
}

fn obey(samples: &[Sample]) -> Vec<Judged> {
    Policy::<Obedient>::configure([]).expect("configured").evaluate(samples)
}

fn order(status: &str, note: &str) -> Sample {
    Sample::insert("orders", crate::row! { "id" => 1, "status" => status, "note" => note }).key(["id"])
}

proptest! {
    #[test]
    fn any_verdict_is_read_as_it_was_written(
        orders in vec(("keep|drop|[a-z]{5,9}", vec("[a-c]{3}", 0..3)), 0..9)
    ) {
        let samples: Vec<_> = orders.iter().map(|(status, masks)| order(status, &masks.join(" "))).collect();
        let expected: Vec<_> = orders.into_iter().map(|(status, masked)| Judged {
            verdict: match status.as_str() {
                "keep" => Verdict::Keep,
                "drop" => Verdict::Drop,
                _ => Verdict::Reject(status),
            },
            masked,
        }).collect();
        prop_assert_eq!(obey(&samples), expected);
    }
}

#[test]
fn a_change_that_a_filter_did_not_ask_for_is_kept() {
    let other = Sample::insert("users", crate::row! { "status" => "drop" });
    let judged = obey(&[other, order("drop", "")]);
    assert_eq!(judged[0], Judged { verdict: Verdict::Keep, masked: vec![] });
    assert_eq!(judged[1], Judged { verdict: Verdict::Drop, masked: vec![] });
}

#[test]
#[should_panic(expected = "the change 0: the column `id` is virtual or of the key, and cannot be hidden")]
fn hiding_the_key_is_refused() {
    drop(obey(&[order("keep", "id")]));
}

/// Decides and admits as what it is told says, so that an answer shows what was read.
struct Echo;

impl Plugin for Echo {
    fn configure(_: &Settings) -> Configured<Self> {
        Ok((Self, vec![]))
    }
}

impl Fanout for Echo {
    fn decide(&self, post: &Facts<'_>) -> Plan {
        let sum = post.followers ^ post.online ^ post.active ^ u64::from(post.rate);
        let length = post.author.len() + 3 * post.item.len();
        post.previous.unwrap_or_else(|| plan([sum % 2 == 1, length % 2 == 1]))
    }
}

impl Gate for Echo {
    fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
        let Some(subject) = &connection.subject else { return Err(Refusal::Unauthenticated) };
        let until = Some(Time::from_micros(request.facts.len() as i64));
        let grant = Grant { history: request.prefix, presence: request.follows, publish: true, until };
        if request.channel == *subject { Ok(grant) } else { Err(Refusal::Forbidden(String::new())) }
    }

    fn receive(&self, _: &Connection, request: &Request, message: &[u8]) -> Result<Reception, Refusal> {
        match (request.event.as_str(), message) {
            ("typing", _) => Ok(Reception::Ephemeral),
            (_, []) => Err(Refusal::Invalid("the message is empty".into())),
            (_, _) => Ok(Reception::Keep),
        }
    }
}

fn plan([pull, silent]: [bool; 2]) -> Plan {
    let delivery = if pull { Delivery::Pull } else { Delivery::Push };
    let notify = if silent { Notify::Nobody } else { Notify::Online };
    Plan { delivery, notify }
}

fn echo() -> Policy<Echo> {
    Policy::configure([]).expect("configured")
}

proptest! {
    #[test]
    fn any_post_is_seen_as_it_was_written_and_its_plan_read_as_it_was_made(
        posts in vec((".{0,5}", ".{0,5}", any::<[u64; 3]>(), any::<u32>(), option::of(any::<[bool; 2]>())), 0..9)
    ) {
        let facts: Vec<Facts> = posts.iter().map(|(author, item, [followers, online, active], rate, previous)| Facts {
            author, item, followers: *followers, online: *online, active: *active, rate: *rate,
            previous: previous.map(plan),
        }).collect();
        let lowered = fanout::lower(&facts);
        let seen: Vec<Facts> = (0..lowered.len()).map(|index| lowered.facts(index)).collect();
        prop_assert_eq!(&seen, &facts);
        let expected: Vec<Plan> = facts.iter().map(|post| Echo.decide(post)).collect();
        prop_assert_eq!(echo().decide(&facts), expected);
    }
}

#[test]
fn a_gate_is_asked_what_was_written_down() {
    let request = Request::prefix("ann").follows().fact("role", "admin");
    let expected = Grant { history: true, presence: true, publish: true, until: Some(Time::from_micros(1)) };
    assert_eq!(echo().admit(&Connection::of("ann"), &request), Ok(expected));
    assert_eq!(echo().admit(&Connection::anonymous(), &request), Err(Refusal::Unauthenticated));
}

#[test]
fn a_message_is_kept_or_not_as_the_gate_says() {
    let receive = |event, message: &[u8]| {
        echo().receive(&Connection::of("ann"), &Request::channel("room").event(event), message)
    };
    assert_eq!(receive("typing", b""), Ok(Reception::Ephemeral));
    assert_eq!(receive("said", b"hello"), Ok(Reception::Keep));
    assert_eq!(receive("said", b""), Err(Refusal::Invalid("the message is empty".into())));
}

#[test]
#[should_panic(expected = "a host would refuse the policy's answer: it refuses without a reason")]
fn a_gate_that_refuses_without_a_reason_fails_the_test() {
    drop(echo().admit(&Connection::of("ann"), &Request::channel("bob")));
}

#[test]
#[should_panic(expected = "a message goes to one channel")]
fn a_message_to_a_prefix_fails_the_test() {
    drop(echo().receive(&Connection::of("ann"), &Request::prefix("room").event("said"), b"hello"));
}
