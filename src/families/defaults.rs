//! What a model file says about a request's settings where the request leaves them to the model.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::condition::MicroConditions;
use crate::error::{Error, Result};
use crate::sample::{Annealing, Schedule};

/// Per-model request defaults.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Defaults {
    /// Share of start tokens that are masked, r_init.
    pub mask_ratio: f32,
    /// Standard deviation σ of the perturbation of the start embedding.
    pub sigma: f32,
    /// Sampling temperature of the one-step student; 0 = arg-max.
    pub temperature: f32,
    #[serde(default)]
    pub top_k: u32,
    #[serde(default = "one")]
    pub top_p: f32,
    #[serde(default)]
    pub teacher: TeacherDefaults,
    /// Of text-to-image models.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro: Option<MicroConditions>,
}

impl Defaults {
    /// Refuse values that no request could carry. `file` is named in the error.
    pub fn validate(&self, file: &str) -> Result<()> {
        let t = &self.teacher;
        let ranges = [
            ("mask_ratio", self.mask_ratio, 0.0, 1.0),
            ("sigma", self.sigma, 0.0, 1.0),
            ("temperature", self.temperature, 0.0, 1e4),
            ("top_p", self.top_p, f32::MIN_POSITIVE, 1.0),
            ("teacher.temperature", t.temperature, f32::MIN_POSITIVE, 1e4),
            ("teacher.guidance_scale", t.guidance_scale, 0.0, 1e4),
            ("teacher.guidance_power", t.guidance_power, 0.0, 1e4),
            ("teacher.randomize_temperature", t.randomize_temperature, 0.0, 1e4),
            ("teacher.steps", t.steps as f32, 1.0, 1e4),
        ];
        for (key, value, low, high) in ranges {
            if !(value.is_finite() && (low..=high).contains(&value)) {
                return Err(Error::Config {
                    file: file.into(),
                    key: format!("request_defaults.{key}"),
                    expected: format!("{low} to {high}"),
                    found: value.to_string(),
                });
            }
        }
        Ok(())
    }
}

fn one() -> f32 {
    1.0
}

/// Defaults of the teacher's multi-step sampler. Files from before there was a choice name no
/// `sampler`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TeacherDefaults {
    /// `None`: the family's first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sampler: Option<SamplerChoice>,
    pub steps: u32,
    /// T of softmax(logits / T).
    pub temperature: f32,
    /// In the family's own form; 0 is no guidance in all of them.
    pub guidance_scale: f32,
    /// How the scale goes over the steps, where the sampler has a choice.
    pub guidance_annealing: Annealing,
    /// Exponent of the cosine annealing.
    pub guidance_power: f32,
    /// Weight of the noise on the confidence: at the start, from which it falls.
    pub randomize_temperature: f32,
    pub schedule: Schedule,
    /// Lower the softmax temperature from 1.3 to 0.5 over the steps, where the sampler has a choice.
    pub sampling_annealing: bool,
    /// What a text-to-image teacher is guided away from where the request does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
}

/// A sampler by its name, with the settings that only it has; its family reads them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Json", into = "Json")]
pub struct SamplerChoice {
    name: String,
    /// An object, or null.
    settings: Json,
}

impl SamplerChoice {
    /// A sampler without settings of its own.
    pub fn named(name: &str) -> SamplerChoice {
        SamplerChoice { name: name.into(), settings: Json::Null }
    }

    /// A sampler with `settings`, which serialise to an object.
    pub fn with(name: &str, settings: impl Serialize) -> SamplerChoice {
        SamplerChoice { name: name.into(), settings: serde_json::to_value(settings).unwrap_or(Json::Null) }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// The settings as the sampler knows them; `()` for one that has none.
    ///
    /// # Errors
    /// `InvalidArgument` for others.
    pub fn settings<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_value(self.settings.clone())
            .map_err(|e| Error::invalid("sampler", format!("the settings of '{}'", self.name), e))
    }
}

impl TryFrom<Json> for SamplerChoice {
    type Error = &'static str;

    fn try_from(json: Json) -> std::result::Result<SamplerChoice, &'static str> {
        match json {
            Json::String(name) => Ok(SamplerChoice { name, settings: Json::Null }),
            Json::Object(object) if object.len() == 1 => match object.into_iter().next() {
                Some((name, settings)) => Ok(SamplerChoice { name, settings }),
                None => Err("a sampler without a name"),
            },
            _ => Err("expected a sampler's name, or an object of its name and settings"),
        }
    }
}

impl From<SamplerChoice> for Json {
    fn from(choice: SamplerChoice) -> Json {
        match choice.settings {
            Json::Null => Json::String(choice.name),
            settings => Json::Object([(choice.name, settings)].into_iter().collect()),
        }
    }
}

impl Default for TeacherDefaults {
    fn default() -> TeacherDefaults {
        TeacherDefaults {
            sampler: None,
            steps: 64,
            temperature: 1.0,
            guidance_scale: 0.0,
            guidance_annealing: Annealing::None,
            guidance_power: 3.0,
            randomize_temperature: 4.5,
            schedule: Schedule::Arccos,
            sampling_annealing: false,
            negative_prompt: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_checked() {
        let good = r#"{"mask_ratio": 0.6, "sigma": 0.1, "temperature": 1.0}"#;
        let parse = |text: &str| serde_json::from_str::<Defaults>(text).unwrap();
        parse(good).validate("f").unwrap();
        for (from, to) in [("0.6", "1.5"), ("0.1", "-0.1"), ("1.0", "-3")] {
            let error = parse(&good.replace(from, to)).validate("f").unwrap_err();
            assert!(error.to_string().contains(to), "{error}");
        }
    }

    #[test]
    fn a_sampler_is_a_name_or_a_name_with_settings() {
        for text in [r#""plain""#, r#"{"other":{"roll":true}}"#] {
            let choice: SamplerChoice = serde_json::from_str(text).unwrap();
            assert_eq!(serde_json::to_string(&choice).unwrap(), text);
        }
        for text in ["5", "{}", r#"{"a":{},"b":{}}"#] {
            assert!(serde_json::from_str::<SamplerChoice>(text).is_err(), "{text}");
        }
        let choice = SamplerChoice::named("plain");
        choice.settings::<()>().unwrap();
        assert!(SamplerChoice::with("plain", [1]).settings::<()>().is_err());
    }
}
