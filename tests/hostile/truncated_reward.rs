//! A reward's file that loses its pages while an engine climbs it: a job fails, the process stands. Reading the pages
//! raises SIGBUS, whose handler is the process's own, so this is apart from the other tests of reward files.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use softdimo::rewards::RewardModel;
use softdimo::{Generated, MemoryMode, Optimize, Request, Reward, RewardTerm, WeightsMode};
use support::rewards::{clip_score, convert};
use support::{bundled, open};

fn truncate(path: &Path, len: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().set_len(len).unwrap();
}

/// Of every iterate, the reward.
fn scores(done: &Generated) -> Vec<f32> {
    done.report.optimization.as_ref().unwrap().iterations.iter().map(|i| i.rewards[0][0]).collect()
}

#[test]
fn a_truncated_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip_score(&folder.path().join("clip")).source;
    let engine = open(&bundled(), MemoryMode::Lean);
    for (i, mode) in [WeightsMode::Map, WeightsMode::MapGuarded, WeightsMode::Read].into_iter().enumerate() {
        let path = convert(&clip, folder.path(), &format!("clip{i}"));
        let reward =
            Arc::new(Reward::network(Arc::new(RewardModel::open(&path, mode).unwrap()), None).unwrap());
        let request = |steps| {
            let terms = vec![RewardTerm { reward: reward.clone(), weight: 1.0 }];
            let optimize = Some(Optimize { lr: 0.05, clip: 1.0, ..Optimize::new(terms, steps) });
            Request { prompts: vec!["red apple".into()], optimize, ..Request::class(7).with_seed(3) }
        };
        let before = engine.generate(&request(1)).unwrap();
        if mode == WeightsMode::MapGuarded {
            // Under a running job: it fails, and nothing else happens.
            let job = engine.submit(&request(100_000)).unwrap();
            while job.progress().step < 3 {
                std::thread::sleep(Duration::from_millis(5));
            }
            truncate(&path, 4096);
            std::thread::sleep(Duration::from_millis(50));
            job.cancel();
            let _ = job.wait(None, |_| ControlFlow::Continue(()));
            let error = job.result().unwrap_err().to_string();
            assert!(error.contains("clip1.softdimo.safetensors: file size: expected"), "{error}");
        }
        truncate(&path, 4096);
        match (mode, engine.submit(&request(1))) {
            (WeightsMode::Read, job) => {
                let after = job.unwrap().wait(None, |_| ControlFlow::Continue(())).unwrap();
                assert_eq!(scores(&after), scores(&before));
            }
            (_, Ok(_)) => panic!("{mode:?}: a truncated file was taken"),
            (_, Err(error)) => {
                let error = error.to_string();
                assert!(
                    error.contains("file size: expected") && error.contains("found 4096 bytes"),
                    "{error}"
                );
            }
        }
    }
    engine.generate(&Request::class(7)).unwrap();
}

/// Emptied and written again with the same bytes but the last: the size is right, and no page was lost.
#[test]
fn a_rewritten_file_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let clip = clip_score(&folder.path().join("clip")).source;
    let engine = open(&bundled(), MemoryMode::Lean);
    let path = convert(&clip, folder.path(), "clip");
    let model = RewardModel::open(&path, WeightsMode::MapGuarded).unwrap();
    let reward = Arc::new(Reward::network(Arc::new(model), None).unwrap());
    let terms = vec![RewardTerm { reward, weight: 1.0 }];
    let optimize = Some(Optimize { lr: 0.05, clip: 1.0, ..Optimize::new(terms, 1) });
    let request = Request { prompts: vec!["red apple".into()], optimize, ..Request::class(7) };
    engine.generate(&request).unwrap();
    let mut bytes = std::fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&path, bytes).unwrap();
    let error = engine.submit(&request).unwrap_err().to_string();
    assert!(error.contains("clip.softdimo.safetensors: time of modification: expected "), "{error}");
    engine.generate(&Request::class(7)).unwrap();
}
