//! What all samplers of all families must do.

use std::sync::Arc;

use super::defaults::{SamplerChoice, TeacherDefaults};
use super::family::Sampler;
use super::{FAMILIES, maskbit, maskgen, maskgit, meissonic};
use crate::rng::Philox;
use crate::sample::masked_diffusion::stand_in::{CODES, MASK, network, run_rule};
use crate::sample::{Logits, MaskedDiffusion, Rule};

/// Every sampler with its family and that one's defaults; MaskGIT's also with its other quota.
fn all() -> Vec<(&'static str, Sampler, TeacherDefaults)> {
    use maskgit::sampler::{MaskGitSettings, Quota};
    let total = SamplerChoice::with(maskgit::sampler::SAMPLER.name, MaskGitSettings { quota: Quota::Total });
    let total = TeacherDefaults { sampler: Some(total), ..maskgit::sampler::teacher_defaults() };
    vec![
        ("maskbit", maskbit::sampler::SAMPLER, maskbit::sampler::teacher_defaults()),
        ("maskgit", maskgit::sampler::SAMPLER, maskgit::sampler::teacher_defaults()),
        ("maskgit", maskgit::sampler::SAMPLER, total),
        ("maskgit", maskgit::halton::SAMPLER, maskgit::halton::teacher_defaults()),
        ("maskgen", maskgen::sampler::SAMPLER, maskgen::sampler::teacher_defaults()),
        ("meissonic", meissonic::sampler::SAMPLER, meissonic::sampler::teacher_defaults()),
    ]
}

#[test]
fn every_family_is_tested() {
    let named: Vec<&str> = all().into_iter().map(|(family, ..)| family).collect();
    for row in FAMILIES {
        assert!(named.contains(&row.description.name), "'{}' needs a row in `all`", row.description.name);
    }
}

/// The rules of [`all`] with a number of steps.
fn rules(steps: u32) -> Vec<(&'static str, Arc<dyn Rule>)> {
    let rule = |(_, sampler, teacher): (&str, Sampler, TeacherDefaults)| {
        (sampler.name, (sampler.rule)(&TeacherDefaults { steps, ..teacher }).unwrap())
    };
    all().into_iter().map(rule).collect()
}

#[test]
fn known_codes_stay_and_the_last_step_decides_the_rest() {
    for ((name, rule), slots) in
        rules(8).into_iter().chain(rules(1)).flat_map(|r| [(r.clone(), 1), (r.clone(), 4), (r, 100)])
    {
        for known in [0, 1, slots / 2, slots] {
            let start: Vec<u32> =
                (0..slots).map(|k| if k * 7 % slots < known { k as u32 % 16 } else { MASK }).collect();
            let sampler = run_rule(rule.clone(), start.clone(), 3);
            assert!(sampler.is_finished());
            let kept = |tokens: &[u32]| {
                start.iter().zip(tokens).all(|(&before, &after)| before == MASK || before == after)
            };
            assert!(kept(sampler.predicted()) && kept(sampler.tokens()), "{rule:?}");
            assert!(sampler.predicted().iter().all(|&code| code < CODES as u32), "{rule:?}");
            // MaskBit's next input would still have a mask.
            if name != maskbit::sampler::SAMPLER.name {
                assert_eq!(sampler.tokens(), sampler.predicted(), "{rule:?}");
            }
        }
    }
}

#[test]
fn fewer_and_fewer_slots_are_masked() {
    for ((_, rule), slots) in rules(12).into_iter().flat_map(|r| [(r.clone(), 4), (r, 64)]) {
        let mut sampler = MaskedDiffusion::new(rule.clone(), vec![MASK; slots], MASK).unwrap();
        let mut masked = slots;
        for i in 0..rule.steps() {
            let (c, u) = (network(i, 0, slots), network(i, 1, slots));
            let (c, u) = (Logits::new(&c, CODES).unwrap(), Logits::new(&u, CODES).unwrap());
            sampler.step(i, c, Some(u), &Philox::new(0)).unwrap();
            let left = sampler.tokens().iter().filter(|&&t| t == MASK).count();
            assert!(left < masked || left <= 1, "{rule:?}, step {i}: {masked} masked, then {left}");
            masked = left;
        }
    }
}

#[test]
fn a_seed_is_a_picture() {
    for (_, rule) in rules(8) {
        let result = |seed| run_rule(rule.clone(), vec![MASK; 64], seed).predicted().to_vec();
        assert_eq!(result(5), result(5));
        assert_ne!(result(5), result(6));
    }
}

#[test]
fn faults_are_named_and_leave_the_state_alone() {
    for (_, rule) in rules(8) {
        let (good, mut bad) = (network(0, 0, 4), network(0, 1, 4));
        bad[2 * CODES] = f32::NAN;
        let logits = |z| Logits::new(z, CODES).unwrap();
        let mut sampler = MaskedDiffusion::new(rule.clone(), vec![MASK; 4], MASK).unwrap();
        let mut message = |i, c, u| sampler.step(i, c, u, &Philox::new(0)).unwrap_err().to_string();
        assert!(message(1, logits(&good), None).contains("expected 0 of 8, found 1"));
        assert!(message(0, logits(&bad), Some(logits(&good))).contains("slot 2, code 0"));
        let short = message(0, logits(&good[CODES..]), Some(logits(&good)));
        assert!(short.contains("expected [4, 16], found [3, 16]"), "{short}");
        if rule.needs_unconditional(0) {
            let expected = "unconditional logits of step 0: expected logits, found none";
            assert_eq!(message(0, logits(&good), None), expected);
            assert!(message(0, logits(&good), Some(logits(&bad))).contains("slot 2, code 0"));
        }
        assert_eq!(sampler.tokens(), [MASK; 4]);
        sampler.step(0, logits(&good), Some(logits(&good)), &Philox::new(0)).unwrap();
    }
}

/// What every rule reads must be a number it can compute with; the confidence's noise is not Halton's.
#[test]
fn settings_are_checked() {
    for (_, rule) in rules(0) {
        let error = MaskedDiffusion::new(rule, vec![], MASK).unwrap_err();
        assert_eq!(error.to_string(), "steps: expected at least 1, found 0");
    }
    for (_, sampler, good) in all() {
        (sampler.rule)(&good).unwrap().validate().unwrap();
        for number in [f32::NAN, f32::INFINITY, -1.0] {
            let mut bad = vec![TeacherDefaults { temperature: number, ..good.clone() }];
            if number != -1.0 || sampler.name != maskbit::sampler::SAMPLER.name {
                bad.push(TeacherDefaults { guidance_scale: number, ..good.clone() });
            }
            if sampler.name != maskgit::halton::SAMPLER.name {
                bad.push(TeacherDefaults { randomize_temperature: number, ..good.clone() });
            }
            for bad in bad {
                let rule = (sampler.rule)(&bad).unwrap();
                assert!(MaskedDiffusion::new(rule, vec![], MASK).is_err(), "{bad:?}");
            }
        }
    }
}

/// Files written before there was a choice of samplers read as they did, and are written as they were.
#[test]
fn old_files_name_no_sampler() {
    let text = r#"{"steps":32,"temperature":1.0,"guidance_scale":2.0,"guidance_annealing":"cosine",
        "guidance_power":3.0,"randomize_temperature":7.5,"schedule":"arccos","sampling_annealing":false}"#;
    let old: TeacherDefaults = serde_json::from_str(text).unwrap();
    let expected = TeacherDefaults {
        steps: 32,
        guidance_scale: 2.0,
        randomize_temperature: 7.5,
        ..maskbit::sampler::teacher_defaults()
    };
    assert_eq!(old, expected);
    let json: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(serde_json::to_value(&old).unwrap(), json);
    assert_eq!(serde_json::from_str::<TeacherDefaults>("{}").unwrap(), TeacherDefaults::default());
}

#[test]
fn every_sampler_reads_back() {
    for (_, sampler, defaults) in all() {
        let text = serde_json::to_string(&defaults).unwrap();
        assert_eq!(serde_json::from_str::<TeacherDefaults>(&text).unwrap(), defaults, "{text}");
        let rule = (sampler.rule)(&defaults).unwrap();
        assert_eq!(rule.steps(), defaults.steps);
        let off = (sampler.rule)(&TeacherDefaults { guidance_scale: 0.0, ..defaults }).unwrap();
        assert!((0..off.steps()).all(|i| !off.needs_unconditional(i)), "{off:?}");
    }
    let text = r#"{"sampler": {"maskgit": {}}, "negative_prompt": "blurry"}"#;
    let found: TeacherDefaults = serde_json::from_str(text).unwrap();
    assert_eq!(found.negative_prompt, "blurry");
    let quota = found.sampler.unwrap().settings::<maskgit::sampler::MaskGitSettings>().unwrap().quota;
    assert_eq!(quota, maskgit::sampler::Quota::PerStep);
    let halton: TeacherDefaults = serde_json::from_str(r#"{"sampler": "halton"}"#).unwrap();
    let error = (maskgit::halton::SAMPLER.rule)(&halton).unwrap_err().to_string();
    assert!(error.starts_with("sampler: expected the settings of 'halton', found"), "{error}");
}
