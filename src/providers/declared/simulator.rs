//! Plays a declared provider: the body of its first sample that reports a state, with other values at the declared places.

use serde_json::Value as Json;

use super::super::{Sample, Simulator};
use super::{Declared, Places, Word};
use crate::domain::{Claim, ProfileState};

impl Simulator for Declared {
    fn compose(&self, sample: &Sample<'_>) -> String {
        let mut body = self.template.clone();
        self.iccid.put(&mut body, Some(sample.iccid));
        self.state.put(&mut body, Some(sample.raw_state));
        for (places, value) in [(&self.eid, sample.eid), (&self.imsi, sample.imsi)] {
            if let Some(places) = places {
                places.put(&mut body, value);
            }
        }
        // No other event of the same run has this id.
        let microseconds = sample.at.as_datetime().unix_timestamp_nanos() / 1_000;
        if let Some(places) = &self.event_id {
            places.put(&mut body, Some(&microseconds.to_string()));
        }
        if let Some((places, unit)) = &self.occurred_at {
            places.put(&mut body, Some(&unit.write(sample.at)));
        }
        body.to_string()
    }

    fn lifecycle(&self) -> Vec<&str> {
        let word = |state, enabled| {
            let meaning = Some(Claim { state, enabled });
            self.words.values().find(|word| word.claim == meaning).map(|Word { text, .. }| text)
        };
        let installed = word(ProfileState::Installed, None);
        let on = word(ProfileState::Installed, Some(true)).or(installed);
        let released = word(ProfileState::Released, None);
        let life = [
            released,
            word(ProfileState::Downloaded, None),
            installed,
            on,
            word(ProfileState::Disabled, Some(false)),
            on,
            word(ProfileState::Deleted, None).or(released),
        ];
        let mut life: Vec<&str> = life.into_iter().flatten().map(String::as_str).collect();
        life.dedup();
        life
    }
}

impl Places {
    /// Puts a value at each of the places that the body has, in the type that is there already. `None` is null.
    fn put(&self, body: &mut Json, value: Option<&str>) {
        for pointer in self.texts() {
            match (body.pointer_mut(pointer), value) {
                (None | Some(Json::Null), _) => {}
                (Some(slot), None) => *slot = Json::Null,
                (Some(slot), Some(text)) => {
                    let number = serde_json::from_str(text).ok().filter(|_| slot.is_number());
                    *slot = number.map_or_else(|| Json::from(text), Json::Number);
                }
            }
        }
    }
}
