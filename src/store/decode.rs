//! Domain types as statements read them: every value is parsed again on its way out of the database.

use sqlx::error::BoxDynError;
use sqlx::postgres::{PgTypeInfo, PgValueRef};
use sqlx::types::time::{Date, OffsetDateTime};
use sqlx::{Decode, Postgres, Type};

use crate::domain::{
    ChangeKind, Country, Day, Device, DisabledBecause, Eid, Iccid, Imsi, Intent, Milestone,
    Outcome, OverdueReason, ProfileState, Reference, Source, Timestamp, TransitionKind,
};

/// A stored text that is no value of this kind.
#[derive(Debug, thiserror::Error)]
#[error("a stored {0} cannot be read")]
pub(super) struct Undecodable(pub &'static str);

macro_rules! decode_text {
    ($($type:ident, $kind:literal, $parse:expr;)+) => {$(
        impl Type<Postgres> for $type {
            fn type_info() -> PgTypeInfo {
                <str as Type<Postgres>>::type_info()
            }

            fn compatible(info: &PgTypeInfo) -> bool {
                <str as Type<Postgres>>::compatible(info)
            }
        }

        impl Decode<'_, Postgres> for $type {
            fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
                let text = <&str as Decode<Postgres>>::decode(value)?;
                ($parse)(text).map_err(|_| Undecodable($kind).into())
            }
        }
    )+};
}

decode_text! {
    Iccid, "iccid", Iccid::parse;
    Imsi, "imsi", Imsi::parse;
    Eid, "eid", Eid::parse;
    ProfileState, "state", str::parse::<ProfileState>;
    TransitionKind, "kind", str::parse::<TransitionKind>;
    Outcome, "outcome", str::parse::<Outcome>;
    OverdueReason, "reason", str::parse::<OverdueReason>;
    ChangeKind, "kind", str::parse::<ChangeKind>;
    DisabledBecause, "disabled_because", str::parse::<DisabledBecause>;
    Intent, "intent", str::parse::<Intent>;
    Milestone, "milestone", str::parse::<Milestone>;
    Source, "source", str::parse::<Source>;
    Device, "device", |text| Device::from_json(text).ok_or(());
    Country, "country", |text| Country::parse(text).ok_or(());
    Reference, "reference", Reference::parse;
}

impl Type<Postgres> for Timestamp {
    fn type_info() -> PgTypeInfo {
        <OffsetDateTime as Type<Postgres>>::type_info()
    }
}

impl Decode<'_, Postgres> for Timestamp {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self::from_datetime(<OffsetDateTime as Decode<Postgres>>::decode(value)?))
    }
}

impl Type<Postgres> for Day {
    fn type_info() -> PgTypeInfo {
        <Date as Type<Postgres>>::type_info()
    }
}

impl Decode<'_, Postgres> for Day {
    fn decode(value: PgValueRef<'_>) -> Result<Self, BoxDynError> {
        Ok(Self::from_date(<Date as Decode<Postgres>>::decode(value)?))
    }
}

/// A nullable time, as a parameter of a statement.
pub(super) fn datetime_option(value: Option<Timestamp>) -> Option<OffsetDateTime> {
    value.map(Timestamp::as_datetime)
}
