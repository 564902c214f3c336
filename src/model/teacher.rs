//! What a model file says about its teacher's sampling where a request leaves it to the model.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::sample::{
    Annealing, Guidance, GuidanceForm, HaltonOptions, MaskBitOptions, MaskGenOptions, MaskGitOptions,
    MeissonicOptions, Quota, SamplerOptions, Schedule,
};

/// Defaults of the teacher's multi-step sampler. Files from before there was a choice have no `sampler`: they
/// are MaskBit's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct TeacherDefaults {
    #[serde(skip_serializing_if = "TeacherSampler::is_default")]
    pub sampler: TeacherSampler,
    pub steps: u32,
    /// T of softmax(logits / T).
    pub temperature: f32,
    /// In the family's own form; 0 is no guidance in all of them.
    pub guidance_scale: f32,
    /// MaskBit, MaskGen.
    pub guidance_annealing: Annealing,
    /// Exponent of the cosine annealing.
    pub guidance_power: f32,
    /// Weight of the noise on the confidence: at the start, from which it falls. Not read by Halton's.
    pub randomize_temperature: f32,
    /// Not read by Halton's, which is arccos.
    pub schedule: Schedule,
    /// Lower the softmax temperature from 1.3 to 0.5 over the steps: MaskBit, MaskGen.
    pub sampling_annealing: bool,
    /// What a text-to-image teacher is guided away from where the request does not say.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub negative_prompt: String,
}

/// A family's sampler, with the settings that only it has.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TeacherSampler {
    #[default]
    MaskBit,
    MaskGit {
        #[serde(default)]
        quota: Quota,
    },
    Halton {
        /// Factor on the logits at the first step and at the last.
        inverse_temperature: [f32; 2],
        /// Begin the sequence at a seeded place.
        roll: bool,
    },
    MaskGen,
    Meissonic {
        /// What `randomize_temperature` has fallen to at the last step.
        last_randomize_temperature: f32,
    },
}

impl TeacherSampler {
    fn is_default(&self) -> bool {
        *self == TeacherSampler::default()
    }
}

impl Default for TeacherDefaults {
    fn default() -> TeacherDefaults {
        TeacherDefaults {
            sampler: TeacherSampler::MaskBit,
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

impl TeacherDefaults {
    /// MaskBit's official sampling configuration.
    pub fn maskbit() -> TeacherDefaults {
        TeacherDefaults {
            guidance_scale: 7.1,
            guidance_annealing: Annealing::Cosine,
            randomize_temperature: 7.8,
            ..TeacherDefaults::default()
        }
    }

    /// Defaults of MaskGIT's `sample`, v1.0 and Di\[M\]O.
    pub fn maskgit() -> TeacherDefaults {
        TeacherDefaults {
            sampler: TeacherSampler::MaskGit { quota: Quota::PerStep },
            steps: 12,
            guidance_scale: 3.0,
            ..TeacherDefaults::default()
        }
    }

    /// MaskGIT by the Halton sampler, as in Halton-MaskGIT's Config/base_cls2img.yaml.
    pub fn halton() -> TeacherDefaults {
        TeacherDefaults {
            sampler: TeacherSampler::Halton { inverse_temperature: [1.0, 1.0], roll: false },
            steps: 32,
            guidance_scale: 3.0,
            ..TeacherDefaults::default()
        }
    }

    /// MaskGen-VQ's configs/infer/MaskGen/maskgen_vq_l.yaml and defaults of its `generate`.
    pub fn maskgen() -> TeacherDefaults {
        TeacherDefaults {
            sampler: TeacherSampler::MaskGen,
            steps: 16,
            guidance_scale: 12.0,
            guidance_annealing: Annealing::Cosine,
            guidance_power: 1.0,
            randomize_temperature: 2.0,
            sampling_annealing: true,
            ..TeacherDefaults::default()
        }
    }

    /// Meissonic as Di\[M\]O samples it; its own pipeline takes 48 steps.
    pub fn meissonic() -> TeacherDefaults {
        TeacherDefaults {
            sampler: TeacherSampler::Meissonic { last_randomize_temperature: 0.0 },
            steps: 64,
            guidance_scale: 9.0,
            randomize_temperature: 2.0,
            schedule: Schedule::Cosine,
            ..TeacherDefaults::default()
        }
    }

    /// The settings as the sampler takes them.
    pub fn sampler_options(&self) -> SamplerOptions {
        let &TeacherDefaults {
            steps,
            temperature: softmax_temperature,
            guidance_scale,
            guidance_annealing,
            guidance_power,
            randomize_temperature,
            schedule,
            sampling_annealing,
            ..
        } = self;
        match self.sampler {
            TeacherSampler::MaskBit => SamplerOptions::MaskBit(MaskBitOptions {
                steps,
                schedule,
                guidance: Guidance {
                    form: GuidanceForm::FromConditional,
                    scale: guidance_scale,
                    annealing: guidance_annealing,
                    pow: guidance_power,
                },
                softmax_temperature,
                sampling_annealing,
                randomize_temperature,
            }),
            TeacherSampler::MaskGit { quota } => SamplerOptions::MaskGit(MaskGitOptions {
                steps,
                schedule,
                quota,
                guidance_scale,
                softmax_temperature,
                randomize_temperature,
            }),
            TeacherSampler::Halton { inverse_temperature, roll } => SamplerOptions::Halton(HaltonOptions {
                steps,
                guidance_scale,
                softmax_temperature,
                inverse_temperature,
                roll,
            }),
            TeacherSampler::MaskGen => SamplerOptions::MaskGen(MaskGenOptions {
                steps,
                schedule,
                guidance_scale,
                guidance_annealing,
                guidance_power,
                softmax_temperature,
                sampling_annealing,
                randomize_temperature,
            }),
            TeacherSampler::Meissonic { last_randomize_temperature } => {
                SamplerOptions::Meissonic(MeissonicOptions {
                    steps,
                    schedule,
                    guidance_scale,
                    softmax_temperature,
                    randomize_temperature: [randomize_temperature, last_randomize_temperature],
                })
            }
        }
    }

    /// Refuse settings that the sampler refuses. `file` is named in the error.
    pub(super) fn validate(&self, file: &str) -> Result<()> {
        self.sampler_options().validate().map_err(|error| match error {
            Error::InvalidArgument { what, expected, found } => Error::Config {
                file: file.into(),
                key: format!("request_defaults.teacher.{what}"),
                expected,
                found,
            },
            other => other,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files written before there was a choice of samplers read as they did, and are written as they were.
    #[test]
    fn old_files_are_maskbit() {
        let text = r#"{"steps":32,"temperature":1.0,"guidance_scale":2.0,"guidance_annealing":"cosine",
            "guidance_power":3.0,"randomize_temperature":7.5,"schedule":"arccos","sampling_annealing":false}"#;
        let old: TeacherDefaults = serde_json::from_str(text).unwrap();
        let expected = TeacherDefaults {
            steps: 32,
            guidance_scale: 2.0,
            randomize_temperature: 7.5,
            ..TeacherDefaults::maskbit()
        };
        assert_eq!(old, expected);
        let json: serde_json::Value = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_value(&old).unwrap(), json);
        assert_eq!(serde_json::from_str::<TeacherDefaults>("{}").unwrap(), TeacherDefaults::default());
    }

    #[test]
    fn every_family_reads_back_and_reaches_its_sampler() {
        for (defaults, name) in [
            (TeacherDefaults::maskbit(), "MaskBit"),
            (TeacherDefaults::maskgit(), "MaskGit"),
            (TeacherDefaults::halton(), "Halton"),
            (TeacherDefaults::maskgen(), "MaskGen"),
            (TeacherDefaults::meissonic(), "Meissonic"),
        ] {
            let text = serde_json::to_string(&defaults).unwrap();
            assert_eq!(serde_json::from_str::<TeacherDefaults>(&text).unwrap(), defaults, "{text}");
            defaults.validate("f").unwrap();
            let options = defaults.sampler_options();
            assert!(format!("{options:?}").starts_with(name), "{options:?}");
            assert_eq!(options.steps(), defaults.steps);
            let off = TeacherDefaults { guidance_scale: 0.0, ..defaults }.sampler_options();
            assert!((0..off.steps()).all(|i| !off.needs_unconditional(i)), "{off:?}");
        }
        let text = r#"{"sampler": {"maskgit": {}}, "negative_prompt": "blurry"}"#;
        let found: TeacherDefaults = serde_json::from_str(text).unwrap();
        assert_eq!(found.sampler, TeacherSampler::MaskGit { quota: Quota::PerStep });
        assert_eq!(found.negative_prompt, "blurry");
        assert!(serde_json::from_str::<TeacherDefaults>(r#"{"sampler": "halton"}"#).is_err());
        assert!(serde_json::from_str::<TeacherDefaults>(r#"{"sampler": "other"}"#).is_err());
    }

    #[test]
    fn settings_are_checked() {
        let sampler = TeacherSampler::Halton { inverse_temperature: [1.0, 0.0], roll: true };
        let error = TeacherDefaults { sampler, ..TeacherDefaults::halton() }.validate("f").unwrap_err();
        let expected = "f: config 'request_defaults.teacher.inverse_temperature': expected finite numbers \
                        above 0, found 0";
        assert_eq!(error.to_string(), expected);
    }
}
