use std::sync::Arc;

use super::*;
use crate::request::Request;
use crate::rewards::Reward;
use crate::runtime::Cancel;
use crate::sessions::tests::on_bundled_model;
use crate::tensor::copies;

/// Nobody who waits.
#[derive(Default)]
pub(crate) struct Alone(Cancel);

impl Host for Alone {
    fn cancel(&self) -> &Cancel {
        &self.0
    }

    fn advance(&self, _: Progress) {}

    fn give_way(&self, _: &mut Sessions) -> Result<()> {
        Ok(())
    }

    fn holds_best(&self) {}

    fn ask(&self, _: &Arc<Reward>, _: Tensor) -> Result<Option<(Tensor, Tensor)>> {
        Ok(None)
    }

    fn is_abandoned(&self) -> bool {
        false
    }
}

/// Neither logits nor pictures nor embeddings are copied: between start and result a job copies a few parameters.
#[test]
fn networks_read_and_write_tensors_in_place() {
    on_bundled_model(|sessions| {
        let batch = 4;
        let soft = Request { decode: Decode::Soft, report_gap: true, ..Request::default().with_batch(batch) };
        let teacher = Request { steps: 3, ..Request::default().with_batch(batch) };
        for request in [soft, teacher] {
            let resolved = request.resolve(sessions.model())?;
            let host = Alone::default();
            // The first job builds graphs, whose constants are copied.
            execute(sessions, &host, &resolved)?;
            let (done, copied) = copies::of(|| execute(sessions, &host, &resolved));
            let (done, _) = done?;
            // Class ids, temperature, sigma.
            assert!(copied <= 100 * batch, "{copied} bytes with {} steps", resolved.steps);

            let (pictures, each) = (done.images.f32s()?, done.images.shape().len() / batch);
            let (seen, copied) =
                copies::of(|| (0..batch).map(|i| done.picture(i).unwrap()).collect::<Vec<_>>());
            assert_eq!(copied, 0);
            for (i, picture) in seen.iter().enumerate() {
                assert_eq!((picture.as_ptr(), picture.len()), (pictures[i * each..].as_ptr(), each));
            }
            assert!(done.picture(batch).is_err());
        }
        Ok(())
    });
}

/// f32 holds integers up to 2^24.
#[test]
fn tokens_are_integers_on_the_way_out() {
    on_bundled_model(|sessions| {
        let resolved = Request::default().resolve(sessions.model())?;
        let (mut done, _) = execute(sessions, &Alone::default(), &resolved)?;
        let shape = done.tokens.shape().clone();
        let mut ids = vec![(1 << 24) + 1; shape.len()];
        ids[1] = i64::from(u32::MAX);
        done.tokens = Tensor::from_i64(shape.clone(), &ids);
        assert_eq!(done.picture_tokens(0)?[..3], [(1 << 24) + 1, u32::MAX, (1 << 24) + 1]);
        ids[0] = -1;
        done.tokens = Tensor::from_i64(shape, &ids);
        assert!(done.picture_tokens(0).is_err());
        Ok(())
    });
}
