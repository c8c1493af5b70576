//! The text of the interface and the types of the calls say the same.

use std::collections::{BTreeMap, BTreeSet};

use portpool_varlink::{
    Call, Fault, INTERFACE, INTERFACE_NAME, SERVICE, ServiceAnswer, ServiceCard,
    calls::{
        Acquire, Block, Describe, Description, Done, Entry, EntryKind, Event, Exclude, Granted,
        Happened, List, Lookup, Method, Named, Page, Persist, Persisted, Release, Tenure,
        Unexclude, Unpersist, Watch, What,
    },
};
use proptest::prelude::*;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value, json};

#[test]
fn every_method_has_the_parameters_and_the_reply_that_the_interface_says() {
    let said = signatures();
    let mut checked = BTreeSet::new();
    let mut check = |name: &str, parameters: BTreeSet<String>, reply: BTreeSet<String>| {
        let short = name.strip_prefix("io.portpool.").unwrap();
        assert_eq!(said[short], (parameters, reply), "{name}");
        checked.insert(short.to_owned());
    };
    let range = range("5000-5019");
    let token = "00000000c0ffee00".parse().unwrap();
    let (transport, transports) = ("tcp".parse().unwrap(), "both".parse().unwrap());
    let text = || Some("text".to_owned());

    let description = Description {
        version: "1".to_owned(),
        namespace: 1,
        attached: true,
        ephemeral: range,
        reservations: 1,
        windows: 1,
    };
    check(Describe::NAME, keys(&Describe {}), keys(&description));
    let acquire = Acquire {
        transports,
        range: Some(range),
        count: Some(1),
        alignment: Some(1),
        within: Some(range),
        wait_ms: Some(1),
        socket: Some(0),
    };
    let granted = Granted {
        range,
        deadline: Some(1),
    };
    check(Acquire::NAME, keys(&acquire), keys(&granted));
    check(Release::NAME, keys(&Release { range }), keys(&Done {}));
    let persist = Persist {
        transports,
        range,
        group: Some(1),
        note: text(),
    };
    let block = Block { transport, token };
    assert_eq!(keys(&block), members("Block"));
    let persisted = Persisted {
        blocks: vec![block],
    };
    check(Persist::NAME, keys(&persist), keys(&persisted));
    check(
        Unpersist::NAME,
        keys(&Unpersist { transports, range }),
        keys(&Done {}),
    );
    check(
        Lookup::NAME,
        keys(&Lookup { transport, range }),
        keys(&Named { token }),
    );
    check(
        Exclude::NAME,
        keys(&Exclude {
            transports,
            range,
            note: text(),
        }),
        keys(&Done {}),
    );
    check(
        Unexclude::NAME,
        keys(&Unexclude { transports, range }),
        keys(&Done {}),
    );
    let page = Page {
        entries: Vec::new(),
        next: text(),
    };
    check(List::NAME, keys(&List { after: text() }), keys(&page));
    check(Watch::NAME, keys(&Watch {}), keys(&Happened::default()));
    assert_eq!(checked, said.keys().cloned().collect());

    let entry = Entry {
        kind: EntryKind::Runtime,
        transport,
        range,
        token: Some(token),
        uid: Some(1),
        pid: Some(1),
        command: text(),
        group: Some(1),
        note: text(),
    };
    assert_eq!(keys(&entry), members("Entry"));
    let event = Event {
        what: What::Born,
        time: 1,
        tenure: Tenure::Persistent,
        transport,
        range,
        token,
        uid: 1,
        pid: 1,
        command: "text".to_owned(),
    };
    assert_eq!(keys(&event), members("Event"));
    assert_eq!(reread(&entry), entry);
    assert_eq!(reread(&event), event);
    assert!(INTERFACE.contains("what: (born, released, closed, deleted)"));
    for what in [What::Born, What::Released, What::Closed, What::Deleted] {
        let name = serde_json::to_value(what).unwrap();
        assert!(["born", "released", "closed", "deleted"].contains(&name.as_str().unwrap()));
    }
}

#[test]
fn every_error_has_the_parameters_that_the_interface_says() {
    let text = || "text".to_owned();
    for fault in [
        Fault::refused(portpool_core::Refusal::InUse, text()),
        Fault::NotAllowed(text()),
        Fault::NotFound(text()),
        Fault::OtherNamespace(text()),
        Fault::TooMany(text()),
        Fault::TimedOut(text()),
        Fault::Failed(text()),
        Fault::InterfaceNotFound(text()),
        Fault::MethodNotFound(text()),
        Fault::MethodNotImplemented(text()),
        Fault::InvalidParameter(text()),
        Fault::ExpectedMore,
    ] {
        let (interface, short) = fault.name().rsplit_once('.').unwrap();
        let page = if interface == INTERFACE_NAME {
            INTERFACE
        } else {
            SERVICE
        };
        let page = code(page);
        let (_, rest) = page.split_once(&format!("error {short}")).expect(short);
        let names = fault.parameters().keys().cloned().collect();
        assert_eq!(field_names(in_parentheses(rest).0), names, "{short}");
    }
}

#[test]
fn what_is_no_range_transport_or_token_is_refused_when_read() {
    for parameters in [
        json!({ "transport": "sctp", "range": { "first": 1, "count": 1 } }),
        json!({ "transport": "tcp", "range": { "first": 0, "count": 1 } }),
        json!({ "transport": "tcp", "range": { "first": 65_535, "count": 2 } }),
        json!({ "transport": "tcp", "range": { "first": 70_000, "count": 1 } }),
        json!({ "transport": "tcp", "range": { "first": 1, "count": 1, "more": 1 } }),
        json!({ "transport": "tcp", "range": { "first": 1, "count": 1 }, "sudo": true }),
        json!({ "range": { "first": 1, "count": 1 } }),
    ] {
        assert!(
            serde_json::from_value::<Lookup>(parameters.clone()).is_err(),
            "{parameters}"
        );
    }
    assert!(serde_json::from_value::<Named>(json!({ "token": "0" })).is_err());
}

#[test]
fn the_service_describes_itself_and_its_interfaces() {
    let card = ServiceCard {
        vendor: "v",
        product: "p",
        version: "1",
        url: "u",
    };
    let ask = |method: &str, parameters: Value| {
        card.answer(&Call {
            method: method.to_owned(),
            parameters: parameters.as_object().cloned(),
            oneway: false,
            more: false,
            upgrade: false,
        })
    };
    let ServiceAnswer::Reply(info) = ask("org.varlink.service.GetInfo", json!({})).unwrap() else {
        panic!("a reply");
    };
    assert_eq!(
        info["interfaces"],
        json!(["org.varlink.service", "io.portpool"])
    );
    let describe = "org.varlink.service.GetInterfaceDescription";
    let answer = ask(describe, json!({ "interface": "io.portpool" })).unwrap();
    let wanted = json!({ "description": INTERFACE })
        .as_object()
        .cloned()
        .unwrap();
    assert_eq!(answer, ServiceAnswer::Reply(wanted));
    assert_eq!(
        ask(describe, json!({ "interface": "a.b" })),
        Err(Fault::InterfaceNotFound("a.b".to_owned()))
    );
    assert_eq!(
        ask(describe, json!({})),
        Err(Fault::InvalidParameter("interface".to_owned()))
    );
    assert_eq!(
        ask("a.b.C", json!({})),
        Err(Fault::InterfaceNotFound("a.b".to_owned()))
    );
    assert_eq!(
        ask("C", json!({})),
        Err(Fault::InterfaceNotFound("C".to_owned()))
    );
    assert_eq!(
        ask("io.portpool.List", json!({})),
        Ok(ServiceAnswer::Method("List".to_owned()))
    );
}

proptest! {
    #[test]
    fn whatever_is_asked_for_reads_back_as_it_was_written(
        first in 1_u16..,
        count in 1_u16..,
        group: Option<u32>,
        note: Option<String>,
        wait_ms: Option<u64>,
    ) {
        let Ok(range) = portpool_core::PortRange::from_numbers(first, count) else {
            return Ok(());
        };
        let persist = Persist { transports: portpool_core::Transports::Udp, range, group, note };
        prop_assert_eq!(reread(&persist), persist);
        let exactly = Acquire::exactly(portpool_core::Transports::Both, range);
        let acquire = Acquire { wait_ms, ..exactly };
        prop_assert_eq!(reread(&acquire), acquire);
    }
}

/// The methods of the text: parameters and reply, by name.
fn signatures() -> BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)> {
    let text = code(INTERFACE);
    let mut methods = BTreeMap::new();
    for rest in text.split("method ").skip(1) {
        let name = rest.split('(').next().unwrap().trim();
        let (parameters, rest) = in_parentheses(rest);
        let (reply, _) = in_parentheses(rest);
        methods.insert(
            name.to_owned(),
            (field_names(parameters), field_names(reply)),
        );
    }
    methods
}

/// The members of a type of the text.
fn members(name: &str) -> BTreeSet<String> {
    let text = code(INTERFACE);
    let (_, rest) = text.split_once(&format!("type {name} ")).unwrap();
    field_names(in_parentheses(rest).0)
}

/// The text without its comments.
fn code(page: &str) -> String {
    let lines = page
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'));
    lines.collect::<Vec<_>>().join("\n")
}

/// What stands in the first parentheses, and what follows them.
fn in_parentheses(text: &str) -> (&str, &str) {
    let start = text.find('(').unwrap();
    let mut depth = 0;
    for (at, letter) in text[start..].char_indices() {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return (&text[start + 1..start + at], &text[start + at + 1..]);
        }
    }
    panic!("no end: {text}");
}

fn field_names(list: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut depth = 0;
    let mut field = String::new();
    for letter in list.chars().chain([',']) {
        match letter {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                if let Some((name, _)) = field.split_once(':') {
                    names.insert(name.trim().to_owned());
                }
                field.clear();
                continue;
            }
            _ => {}
        }
        field.push(letter);
    }
    names
}

fn keys(it: &impl Serialize) -> BTreeSet<String> {
    let map: Map<String, Value> = serde_json::to_value(it)
        .unwrap()
        .as_object()
        .cloned()
        .unwrap();
    map.keys().cloned().collect()
}

fn reread<T: Serialize + DeserializeOwned>(it: &T) -> T {
    serde_json::from_slice(&serde_json::to_vec(it).unwrap()).unwrap()
}

fn range(text: &str) -> portpool_core::PortRange {
    text.parse().unwrap()
}
