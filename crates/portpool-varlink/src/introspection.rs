//! What every Varlink service says about itself: `org.varlink.service`.

use serde_json::{Map, Value, json};

use crate::{Call, Fault};

/// The name of the keeper's interface.
pub const INTERFACE_NAME: &str = "io.portpool";

/// Its text, as it is served.
pub const INTERFACE: &str = include_str!("io.portpool.varlink");

/// The name of the interface that every service has.
pub const SERVICE_NAME: &str = "org.varlink.service";

/// Its text.
pub const SERVICE: &str = include_str!("org.varlink.service.varlink");

/// Who the service is.
#[derive(Clone, Copy, Debug)]
pub struct ServiceCard {
    /// Who made it.
    pub vendor: &'static str,
    /// What it is.
    pub product: &'static str,
    /// Which version.
    pub version: &'static str,
    /// Where more is said.
    pub url: &'static str,
}

/// What to do with a call.
#[derive(Clone, Debug, PartialEq)]
pub enum ServiceAnswer {
    /// It was for `org.varlink.service`: this is the reply.
    Reply(Map<String, Value>),
    /// It is for the keeper's interface: this is the method, without the interface.
    Method(String),
}

impl ServiceCard {
    /// Answers what every service answers and finds the method of the rest.
    ///
    /// # Errors
    /// [`Fault`] if there is no such interface or method.
    pub fn answer(&self, call: &Call) -> Result<ServiceAnswer, Fault> {
        let Some((interface, method)) = call.method.rsplit_once('.') else {
            return Err(Fault::InterfaceNotFound(call.method.clone()));
        };
        match (interface, method) {
            (INTERFACE_NAME, method) => Ok(ServiceAnswer::Method(method.to_owned())),
            (SERVICE_NAME, "GetInfo") => Ok(reply(&json!({
                "vendor": self.vendor,
                "product": self.product,
                "version": self.version,
                "url": self.url,
                "interfaces": [SERVICE_NAME, INTERFACE_NAME],
            }))),
            (SERVICE_NAME, "GetInterfaceDescription") => {
                let parameters = call.parameters.as_ref();
                let name = parameters.and_then(|it| it.get("interface")?.as_str());
                let description = match name {
                    None => return Err(Fault::InvalidParameter("interface".to_owned())),
                    Some(INTERFACE_NAME) => INTERFACE,
                    Some(SERVICE_NAME) => SERVICE,
                    Some(other) => return Err(Fault::InterfaceNotFound(other.to_owned())),
                };
                Ok(reply(&json!({ "description": description })))
            }
            (SERVICE_NAME, _) => Err(Fault::MethodNotFound(call.method.clone())),
            _ => Err(Fault::InterfaceNotFound(interface.to_owned())),
        }
    }
}

fn reply(value: &Value) -> ServiceAnswer {
    ServiceAnswer::Reply(value.as_object().cloned().unwrap_or_default())
}
