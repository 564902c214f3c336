//! tmp
use crate::error::Result;
use crate::rng::Philox;
#[derive(Clone, Copy, Debug)]
pub struct SampleOptions {
    pub temperature: f32,
    pub top_k: u32,
    pub top_p: f32,
}
impl SampleOptions {
    pub fn validate(&self) -> Result<()> {
        Ok(())
    }
}
pub struct Sampled {
    pub tokens: Vec<u32>,
    pub max_probability: Vec<f32>,
}
pub fn sample_tokens(z: &[f32], codes: usize, _o: &SampleOptions, _r: &Philox, _s: u32) -> Result<Sampled> {
    let mut s = Sampled { tokens: vec![], max_probability: vec![] };
    for r in z.chunks(codes) {
        let mut b = 0;
        for i in 0..codes {
            if r[i] > r[b] {
                b = i
            }
        }
        s.tokens.push(b as u32);
        let m = r[b];
        s.max_probability.push(1.0 / r.iter().map(|x| (x - m).exp()).sum::<f32>());
    }
    Ok(s)
}
pub fn start_tokens(r: &Philox, slots: usize, codes: usize, mask: u32, ratio: f32) -> Vec<u32> {
    let n = (slots as f32 * ratio).round() as usize;
    (0..slots)
        .map(|i| {
            if (i * 7919) % slots < n {
                mask
            } else {
                r.u32_at(crate::rng::Stream::StartCodes, 0, i as u64) % codes as u32
            }
        })
        .collect()
}
pub struct Schedule;
impl Schedule {
    pub fn parse(_: &str) -> Result<Schedule> {
        Ok(Schedule)
    }
}
pub struct Guidance {
    pub scale: f32,
}
impl Guidance {
    pub fn parse(s: f32, _: &str, _: f32) -> Result<Guidance> {
        Ok(Guidance { scale: s })
    }
}
pub struct MaskedDiffusion {
    pub steps: u32,
    pub schedule: Schedule,
    pub guidance: Guidance,
    pub sampling: SampleOptions,
    pub randomize_temperature: f32,
}
pub struct Pic;
impl Pic {
    pub fn masked(&self) -> &[u32] {
        &[]
    }
    pub fn predicted(&self) -> &[u32] {
        &[]
    }
    pub fn max_probability(&self) -> &[f32] {
        &[]
    }
}
impl MaskedDiffusion {
    pub fn begin(&self, _: Vec<u32>, _: u32) -> Pic {
        Pic
    }
    pub fn step(
        &self,
        _: &mut Pic,
        _: u32,
        _: &[f32],
        _: Option<&[f32]>,
        _: usize,
        _: &Philox,
    ) -> Result<()> {
        Ok(())
    }
}
