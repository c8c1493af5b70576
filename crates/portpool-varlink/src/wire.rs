//! The types of the rules as they are written in messages. What cannot be parsed is refused here, at the
//! edge: past it a range is a range.

/// `{"first": 8080, "count": 4}`.
pub(crate) mod range {
    use portpool_core::PortRange;
    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error};

    #[derive(Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Range {
        first: u16,
        count: u16,
    }

    pub(crate) fn serialize<S: Serializer>(range: &PortRange, to: S) -> Result<S::Ok, S::Error> {
        let wire = Range {
            first: range.first().number(),
            count: range.count().number(),
        };
        wire.serialize(to)
    }

    pub(crate) fn deserialize<'a, D: Deserializer<'a>>(from: D) -> Result<PortRange, D::Error> {
        let Range { first, count } = Range::deserialize(from)?;
        PortRange::from_numbers(first, count).map_err(D::Error::custom)
    }

    /// The same, or nothing.
    pub(crate) mod optional {
        use super::{Deserialize, Deserializer, PortRange, Serialize, Serializer};

        #[derive(Serialize, Deserialize)]
        struct Wrapped(#[serde(with = "super")] PortRange);

        pub(crate) fn serialize<S: Serializer>(
            range: &Option<PortRange>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            range.map(Wrapped).serialize(to)
        }

        pub(crate) fn deserialize<'a, D: Deserializer<'a>>(
            from: D,
        ) -> Result<Option<PortRange>, D::Error> {
            Ok(Option::<Wrapped>::deserialize(from)?.map(|it| it.0))
        }
    }
}

/// What is written as it prints: `"tcp"`, `"both"`, `"00000000c0ffee00"`.
pub(crate) mod text {
    use std::{borrow::Cow, fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(it: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(it)
    }

    pub(crate) fn deserialize<'a, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'a>,
    {
        let text = Cow::<'a, str>::deserialize(from)?;
        text.parse().map_err(D::Error::custom)
    }

    /// The same, or nothing.
    pub(crate) mod optional {
        use super::{Cow, Deserialize, Deserializer, Display, Error, FromStr, Serializer};

        pub(crate) fn serialize<T: Display, S: Serializer>(
            it: &Option<T>,
            to: S,
        ) -> Result<S::Ok, S::Error> {
            match it {
                Some(it) => to.collect_str(it),
                None => to.serialize_none(),
            }
        }

        pub(crate) fn deserialize<'a, T, D>(from: D) -> Result<Option<T>, D::Error>
        where
            T: FromStr<Err: Display>,
            D: Deserializer<'a>,
        {
            let text = Option::<Cow<'a, str>>::deserialize(from)?;
            let parsed = text.map(|text| text.parse().map_err(D::Error::custom));
            parsed.transpose()
        }
    }
}
