//! The methods of `io.portpool`: what is said with each and what it answers.
//!
//! Ranges, transports and tokens are those of the rules; what is none is refused when it is read.

use portpool_core::{PortRange, Token, Transport, Transports, Wildcard};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::wire;

/// A method, by its parameters.
pub trait Method: Serialize + DeserializeOwned {
    /// Interface and method.
    const NAME: &'static str;
    /// What it answers.
    type Reply: Serialize + DeserializeOwned;
}

/// Asks what keeper this is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Describe {}

/// What keeper this is and what it keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Description {
    /// Of the keeper.
    pub version: String,
    /// The network namespace, by its cookie.
    pub namespace: u64,
    /// Whether a pool is attached there.
    pub attached: bool,
    /// Where automatic choice picks from.
    #[serde(with = "wire::range")]
    pub ephemeral: PortRange,
    /// Reservations that live, of all kinds.
    pub reservations: u64,
    /// Windows that are open.
    pub windows: u64,
}

/// Makes ports grantable to the calling process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acquire {
    /// Of which transports.
    #[serde(with = "wire::text")]
    pub transports: Transports,
    /// Exactly these.
    #[serde(
        default,
        with = "wire::range::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub range: Option<PortRange>,
    /// Any so many consecutive ones instead.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u16>,
    /// Of which the first is a multiple of this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alignment: Option<u16>,
    /// In this range; without it anywhere that automatic choice picks from.
    #[serde(
        default,
        with = "wire::range::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub within: Option<PortRange>,
    /// How long to wait while the ports are in use, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wait_ms: Option<u64>,
    /// Which of the passed descriptors is a socket in the caller's network namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub socket: Option<u32>,
}

impl Acquire {
    /// Exact ports, waiting for nothing.
    pub fn exactly(transports: Transports, range: PortRange) -> Acquire {
        Acquire {
            transports,
            range: Some(range),
            count: None,
            alignment: None,
            within: None,
            wait_ms: None,
            socket: None,
        }
    }

    /// Any ports of a kind, waiting for nothing.
    pub fn any(transports: Transports, wanted: &Wildcard) -> Acquire {
        Acquire {
            transports,
            range: None,
            count: Some(wanted.count.number()),
            alignment: Some(wanted.alignment.number()),
            within: wanted.within,
            wait_ms: None,
            socket: None,
        }
    }
}

/// The caller may claim now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
    /// Until then, in nanoseconds since boot; nothing if no window was needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
}

/// Gives back what this connection was granted and has not claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// As granted.
    #[serde(with = "wire::range")]
    pub range: PortRange,
}

/// Creates persistent reservations.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Persist {
    /// Of which transports: of all of them or of none.
    #[serde(with = "wire::text")]
    pub transports: Transports,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
    /// Who may use it beside CAP_NET_ADMIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// What was made persistent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persisted {
    /// One for each transport.
    pub blocks: Vec<Block>,
}

/// A persistent reservation of one transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// TCP or UDP.
    #[serde(with = "wire::text")]
    pub transport: Transport,
    /// Valid until the pool is attached anew.
    #[serde(with = "wire::text")]
    pub token: Token,
}

/// Deletes the persistent reservations of exactly this range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unpersist {
    /// Of which transports: of all of them or of none.
    #[serde(with = "wire::text")]
    pub transports: Transports,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
}

/// Asks for the token of a persistent reservation of exactly this range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// Of which transport.
    #[serde(with = "wire::text")]
    pub transport: Transport,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
}

/// The token of a persistent reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// Valid until the pool is attached anew.
    #[serde(with = "wire::text")]
    pub token: Token,
}

/// Keeps automatic choice and reservations away from ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Exclude {
    /// Of which transports: of all of them or of none.
    #[serde(with = "wire::text")]
    pub transports: Transports,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Ends what [`Exclude`] did, for exactly this range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unexclude {
    /// Of which transports: of all of them or of none.
    #[serde(with = "wire::text")]
    pub transports: Transports,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
}

/// Asks for entries, some at a time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// Those that follow this, as a reply named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
}

/// Some entries.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The entries.
    pub entries: Vec<Entry>,
    /// What to ask after for those that follow; nothing at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// A reservation that ends with its owner socket.
    Runtime,
    /// A reservation that ends when it is deleted.
    Persistent,
    /// Ports kept from automatic choice.
    Exclusion,
}

/// Something that has ports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is.
    pub kind: EntryKind,
    /// Of which transport.
    #[serde(with = "wire::text")]
    pub transport: Transport,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
    /// Its name; exclusions have none.
    #[serde(
        default,
        with = "wire::text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    pub token: Option<Token>,
    /// Whose it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// Which process has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// What that process is called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Who may use it beside CAP_NET_ADMIN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<u32>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Asks for events from now on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Watch {}

/// Some events.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happened {
    /// In the order they happened.
    pub events: Vec<Event>,
    /// So many came before these and were dropped, because the reader was slow.
    pub lost: u64,
}

/// What happened to a reservation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It was made.
    Born,
    /// It was released by its token.
    Released,
    /// Its owner socket was closed, or its process ended.
    Closed,
    /// It was persistent and was deleted.
    Deleted,
}

/// How long a reservation lasts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tenure {
    /// Until its owner socket is closed.
    Runtime,
    /// Until it is deleted.
    Persistent,
}

/// The birth or death of a reservation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What happened.
    pub what: What,
    /// When, in nanoseconds since boot.
    pub time: u64,
    /// How long the reservation was to last.
    pub tenure: Tenure,
    /// Of which transport.
    #[serde(with = "wire::text")]
    pub transport: Transport,
    /// These ports.
    #[serde(with = "wire::range")]
    pub range: PortRange,
    /// Its name.
    #[serde(with = "wire::text")]
    pub token: Token,
    /// Whose it is.
    pub uid: u32,
    /// Which process has it; 0 if it is persistent.
    pub pid: u32,
    /// What that process is called.
    pub command: String,
}

/// The answer of methods that only do something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {}

impl Method for Describe {
    const NAME: &'static str = "io.portpool.Describe";
    type Reply = Description;
}

impl Method for Acquire {
    const NAME: &'static str = "io.portpool.Acquire";
    type Reply = Granted;
}

impl Method for Release {
    const NAME: &'static str = "io.portpool.Release";
    type Reply = Done;
}

impl Method for Persist {
    const NAME: &'static str = "io.portpool.Persist";
    type Reply = Persisted;
}

impl Method for Unpersist {
    const NAME: &'static str = "io.portpool.Unpersist";
    type Reply = Done;
}

impl Method for Lookup {
    const NAME: &'static str = "io.portpool.Lookup";
    type Reply = Named;
}

impl Method for Exclude {
    const NAME: &'static str = "io.portpool.Exclude";
    type Reply = Done;
}

impl Method for Unexclude {
    const NAME: &'static str = "io.portpool.Unexclude";
    type Reply = Done;
}

impl Method for List {
    const NAME: &'static str = "io.portpool.List";
    type Reply = Page;
}

impl Method for Watch {
    const NAME: &'static str = "io.portpool.Watch";
    type Reply = Happened;
}
