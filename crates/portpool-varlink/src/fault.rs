//! The errors of the interface, and those every Varlink service has.

use portpool_core::Refusal;
use serde_json::{Map, Value, json};

/// What a service answers instead of what was asked for.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The pool says no.
    #[error("{message}")]
    Refused {
        /// Why, if this version knows the reason.
        refusal: Option<Refusal>,
        /// The ports and the next step.
        message: String,
    },
    /// The caller may not do this.
    #[error("{0}")]
    NotAllowed(String),
    /// There is nothing of exactly this range.
    #[error("{0}")]
    NotFound(String),
    /// The caller is in another network namespace than the keeper's pool.
    #[error("{0}")]
    OtherNamespace(String),
    /// A limit of the keeper.
    #[error("{0}")]
    TooMany(String),
    /// It was waited for in vain.
    #[error("{0}")]
    TimedOut(String),
    /// It went wrong for a reason that is not the caller's.
    #[error("{0}")]
    Failed(String),
    /// No such interface.
    #[error("the service has no interface {0}")]
    InterfaceNotFound(String),
    /// No such method.
    #[error("the service has no method {0}")]
    MethodNotFound(String),
    /// The interface has the method and this service does not.
    #[error("the service does not implement {0}")]
    MethodNotImplemented(String),
    /// A parameter is missing, unknown or of another type.
    #[error("parameter {0} is missing, unknown or not as the interface says")]
    InvalidParameter(String),
    /// The method answers more than once and has to be called so.
    #[error("call the method with more")]
    ExpectedMore,
    /// An error this version does not know.
    #[error("the service answered {name} {parameters:?}")]
    Other {
        /// Its name.
        name: String,
        /// What came with it.
        parameters: Map<String, Value>,
    },
}

impl Fault {
    /// The pool's no, with the ports and the next step in words.
    pub fn refused(refusal: Refusal, message: impl Into<String>) -> Fault {
        Fault::Refused {
            refusal: Some(refusal),
            message: message.into(),
        }
    }

    /// What the pool answered, if it did.
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Fault::Refused { refusal, .. } => *refusal,
            _ => None,
        }
    }

    /// The name on the wire.
    pub fn name(&self) -> &str {
        match self {
            Fault::Refused { .. } => REFUSED,
            Fault::NotAllowed(_) => NOT_ALLOWED,
            Fault::NotFound(_) => NOT_FOUND,
            Fault::OtherNamespace(_) => OTHER_NAMESPACE,
            Fault::TooMany(_) => TOO_MANY,
            Fault::TimedOut(_) => TIMED_OUT,
            Fault::Failed(_) => FAILED,
            Fault::InterfaceNotFound(_) => INTERFACE_NOT_FOUND,
            Fault::MethodNotFound(_) => METHOD_NOT_FOUND,
            Fault::MethodNotImplemented(_) => METHOD_NOT_IMPLEMENTED,
            Fault::InvalidParameter(_) => INVALID_PARAMETER,
            Fault::ExpectedMore => EXPECTED_MORE,
            Fault::Other { name, .. } => name,
        }
    }

    /// What goes with the name.
    pub fn parameters(&self) -> Map<String, Value> {
        let value = match self {
            Fault::Refused { refusal, message } => json!({
                "reason": refusal.map_or("unknown", Refusal::name),
                "number": refusal.map_or(0, Refusal::number),
                "message": message,
            }),
            Fault::NotAllowed(message)
            | Fault::NotFound(message)
            | Fault::OtherNamespace(message)
            | Fault::TooMany(message)
            | Fault::TimedOut(message)
            | Fault::Failed(message) => json!({ "message": message }),
            Fault::InterfaceNotFound(interface) => json!({ "interface": interface }),
            Fault::MethodNotFound(method) | Fault::MethodNotImplemented(method) => {
                json!({ "method": method })
            }
            Fault::InvalidParameter(parameter) => json!({ "parameter": parameter }),
            Fault::ExpectedMore => json!({}),
            Fault::Other { parameters, .. } => Value::Object(parameters.clone()),
        };
        match value {
            Value::Object(parameters) => parameters,
            _ => Map::new(),
        }
    }

    /// What a reply's error means.
    pub fn from_wire(name: String, parameters: Map<String, Value>) -> Fault {
        let text = |field: &str| {
            let value = parameters.get(field).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        match name.as_str() {
            REFUSED => {
                let number = parameters.get("number").and_then(Value::as_u64);
                let number = number.and_then(|number| u16::try_from(number).ok());
                Fault::Refused {
                    refusal: number.and_then(Refusal::from_number),
                    message: text("message"),
                }
            }
            NOT_ALLOWED => Fault::NotAllowed(text("message")),
            NOT_FOUND => Fault::NotFound(text("message")),
            OTHER_NAMESPACE => Fault::OtherNamespace(text("message")),
            TOO_MANY => Fault::TooMany(text("message")),
            TIMED_OUT => Fault::TimedOut(text("message")),
            FAILED => Fault::Failed(text("message")),
            INTERFACE_NOT_FOUND => Fault::InterfaceNotFound(text("interface")),
            METHOD_NOT_FOUND => Fault::MethodNotFound(text("method")),
            METHOD_NOT_IMPLEMENTED => Fault::MethodNotImplemented(text("method")),
            INVALID_PARAMETER => Fault::InvalidParameter(text("parameter")),
            EXPECTED_MORE => Fault::ExpectedMore,
            _ => Fault::Other { name, parameters },
        }
    }
}

const REFUSED: &str = "io.portpool.Refused";
const NOT_ALLOWED: &str = "io.portpool.NotAllowed";
const NOT_FOUND: &str = "io.portpool.NotFound";
const OTHER_NAMESPACE: &str = "io.portpool.OtherNamespace";
const TOO_MANY: &str = "io.portpool.TooMany";
const TIMED_OUT: &str = "io.portpool.TimedOut";
const FAILED: &str = "io.portpool.Failed";
const INTERFACE_NOT_FOUND: &str = "org.varlink.service.InterfaceNotFound";
const METHOD_NOT_FOUND: &str = "org.varlink.service.MethodNotFound";
const METHOD_NOT_IMPLEMENTED: &str = "org.varlink.service.MethodNotImplemented";
const INVALID_PARAMETER: &str = "org.varlink.service.InvalidParameter";
const EXPECTED_MORE: &str = "org.varlink.service.ExpectedMore";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_reads_back_from_its_name_and_parameters() {
        let text = || "why and what next".to_owned();
        for fault in [
            Fault::refused(Refusal::InUse, text()),
            Fault::NotAllowed(text()),
            Fault::NotFound(text()),
            Fault::OtherNamespace(text()),
            Fault::TooMany(text()),
            Fault::TimedOut(text()),
            Fault::Failed(text()),
            Fault::InterfaceNotFound("a.b".to_owned()),
            Fault::MethodNotFound("a.b.C".to_owned()),
            Fault::MethodNotImplemented("a.b.C".to_owned()),
            Fault::InvalidParameter("range".to_owned()),
            Fault::ExpectedMore,
            Fault::Other {
                name: "a.b.C".to_owned(),
                parameters: Map::from_iter([("d".to_owned(), json!(1))]),
            },
        ] {
            let read = Fault::from_wire(fault.name().to_owned(), fault.parameters());
            assert_eq!(read, fault);
        }
    }

    #[test]
    fn a_refusal_this_version_does_not_know_keeps_its_message() {
        let parameters = json!({ "reason": "new", "number": 999, "message": "m" });
        let parameters = parameters.as_object().unwrap().clone();
        let fault = Fault::from_wire(REFUSED.to_owned(), parameters);
        assert_eq!((fault.refusal(), fault.to_string().as_str()), (None, "m"));
    }
}
