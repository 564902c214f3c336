//! What to generate. Fields left at `None` take the model's own default, stored in its file.

use crate::edit::Edit;
use crate::error::{Error, Result};
use crate::families::condition::MicroConditions;
use crate::families::family::Layout;
use crate::label::Label;
use crate::model::Model;
use crate::sample::SampleOptions;
use crate::shortage;
use crate::tteo::Optimize;

/// How the student's logits become a picture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decode {
    /// Sample (or arg-max) codes and decode those.
    #[default]
    Hard,
    /// Decode the soft embedding, the expected code under softmax(logits / temperature). Differentiable.
    Soft,
}

/// One job: `batch` pictures. Picture b is generated with seed + b (wrapping), so it equals picture 0 of
/// a request with that seed. Later versions may add fields: end a literal with `..Request::default()`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Request {
    /// One label for all pictures, or one per picture; empty means the null class.
    pub labels: Vec<Label>,
    /// One prompt for all pictures, or one per picture: read by models that are conditioned on text and by
    /// rewards that score a picture against text.
    pub prompts: Vec<String>,
    /// What the multi-step sampler is guided away from, for models that are conditioned on text.
    pub negative_prompt: Option<String>,
    /// Text-to-image models: what the picture is said to be like.
    pub aesthetic_score: Option<f32>,
    /// Text-to-image models: width and height in pixels the picture is said to have had.
    pub original_size: Option<[u32; 2]>,
    /// Text-to-image models: left and top in pixels of the crop it is said to be.
    pub crop: Option<[u32; 2]>,
    /// Number of pictures, 1 to 256; 0 is taken as 1.
    pub batch: usize,
    pub seed: u64,
    /// 0: the model's own way, one step where it has a student, else its teacher's default steps.
    /// 1: one forward pass of the student. More: the teacher's masked-diffusion sampler.
    pub steps: u32,
    pub decode: Decode,
    /// 0 = arg-max. With `Decode::Soft`, the softmax temperature (0 is taken as 1 there).
    pub temperature: Option<f32>,
    /// Keep the k most probable codes; 0 = all.
    pub top_k: Option<u32>,
    /// Keep the most probable codes up to this cumulative probability; 1 = all.
    pub top_p: Option<f32>,
    /// Share of start tokens that are masked, 0 to 1.
    pub mask_ratio: Option<f32>,
    /// Standard deviation of the start embedding's perturbation, 0 to 1.
    pub sigma: Option<f32>,
    /// Teacher only: classifier-free guidance scale.
    pub guidance_scale: Option<f32>,
    /// Teacher only: temperature of the confidence noise.
    pub randomize_temperature: Option<f32>,
    /// Start tokens [B, N, splits] instead of seeded ones; the mask token is allowed.
    pub start_tokens: Option<Vec<u32>>,
    /// Start from a picture: keep some of its tokens.
    pub edit: Option<Edit>,
    /// Start embedding [B, N, D] instead of one made from start tokens.
    pub e_in: Option<Vec<f32>>,
    /// Also decode the other way and report the mean absolute difference of the two pictures.
    pub report_gap: bool,
    /// Test-time embedding optimisation of a one-step job.
    pub optimize: Option<Optimize>,
    /// Jobs of higher priority go first, those of equal priority in the order of their submission. A running job of several
    /// steps, or an optimisation without a deadline, lets jobs of higher priority go before its next step.
    pub priority: i32,
    /// The latest wins: jobs of the same engine with this key that have not begun end as cancelled
    /// ([`Error::Replaced`]) when this one is submitted. 0 for none.
    pub queue_key: u64,
}

/// A copy of an array of a request.
fn copied<T: Copy>(what: &str, values: &Option<Vec<T>>) -> Result<Option<Vec<T>>> {
    values.as_ref().map(|values| shortage::copied(what, values)).transpose()
}

/// Most pictures one request may ask for.
pub const BATCH_LIMIT: usize = 256;

/// A request with every field checked and every default filled in.
#[derive(Clone, Debug)]
pub(crate) struct Resolved {
    pub classes: Vec<i64>,
    /// The prompt of every picture; empty when nothing reads one.
    pub prompts: Vec<String>,
    pub negative_prompt: String,
    /// In the order the generator reads them.
    pub micro: Vec<f32>,
    pub batch: usize,
    pub seed: u64,
    pub steps: u32,
    pub decode: Decode,
    pub sampling: SampleOptions,
    pub mask_ratio: f32,
    pub sigma: f32,
    pub guidance_scale: f32,
    pub randomize_temperature: f32,
    pub start_tokens: Option<Vec<u32>>,
    pub edit: Option<Edit>,
    pub e_in: Option<Vec<f32>>,
    pub report_gap: bool,
    pub optimize: Option<Optimize>,
    /// What of the request is not used.
    pub warnings: Vec<String>,
}

impl Request {
    /// A request for one picture of a class by its name.
    pub fn label(name: impl Into<String>) -> Request {
        Request { labels: vec![Label::Name(name.into())], ..Request::default() }
    }

    /// A request for one picture of a class by its id.
    pub fn class(id: u32) -> Request {
        Request { labels: vec![Label::Class(id)], ..Request::default() }
    }

    /// The same request with another seed.
    pub fn with_seed(self, seed: u64) -> Request {
        Request { seed, ..self }
    }

    /// The same request for `batch` pictures.
    pub fn with_batch(self, batch: usize) -> Request {
        Request { batch, ..self }
    }

    /// Check every field against `model` and fill in its defaults.
    pub(crate) fn resolve(&self, model: &Model) -> Result<Resolved> {
        let layout = model.architecture().layout();
        let defaults = model.defaults();
        let batch = self.batch.max(1);
        if batch > BATCH_LIMIT {
            return Err(Error::invalid("batch", format!("1 to {BATCH_LIMIT}"), batch));
        }
        let steps = match self.steps {
            0 if model.has_component("student") => 1,
            0 => defaults.teacher.steps.max(2),
            n => n,
        };
        let one_step = steps == 1;
        if self.steps > 10_000 {
            return Err(Error::invalid("steps", "0 to 10000", self.steps));
        }
        let range = |what: &str, value: f32, low: f32, high: f32| match value {
            v if v.is_finite() && (low..=high).contains(&v) => Ok(v),
            v => Err(Error::invalid(what, format!("{low} to {high}"), v)),
        };
        let teacher = &defaults.teacher;
        let temperature = match self.temperature {
            Some(t) => t,
            None if one_step => defaults.temperature,
            None => teacher.temperature,
        };
        if !one_step && temperature == 0.0 {
            return Err(Error::invalid("temperature", "more than 0 with steps > 1", temperature));
        }
        let sampling = SampleOptions {
            temperature: range("temperature", temperature, 0.0, 1e4)?,
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: range("top_p", self.top_p.unwrap_or(defaults.top_p), 0.0, 1.0)?,
        };
        sampling.validate()?;
        if !one_step && self.decode == Decode::Soft {
            return Err(Error::Unsupported {
                what: "soft decoding with steps > 1".into(),
                reason: "the multi-step sampler chooses tokens; use decode hard, or steps 1".into(),
            });
        }
        if !one_step && (self.top_k.is_some_and(|k| k > 0) || self.top_p.is_some_and(|p| p < 1.0)) {
            return Err(Error::Unsupported {
                what: "top_k and top_p with steps > 1".into(),
                reason: "the multi-step sampler ranks by confidence; use its temperatures".into(),
            });
        }
        if !one_step && self.e_in.is_some() {
            return Err(Error::Unsupported {
                what: "a start embedding with steps > 1".into(),
                reason: "the multi-step sampler starts from tokens; use start_tokens, or steps 1".into(),
            });
        }
        if let Some(optimize) = &self.optimize {
            if !one_step {
                return Err(Error::Unsupported {
                    what: "optimisation with steps > 1".into(),
                    reason: "the multi-step sampler chooses tokens, which have no gradient; use steps 1"
                        .into(),
                });
            }
            optimize.validate(model, self.sigma.unwrap_or(defaults.sigma))?;
        }
        if let Some(tokens) = &self.start_tokens {
            Request::check_counts(&layout, batch, (Some(tokens.len()), None))?;
            let is_token = |t: u32| (t as usize) < layout.codes || t as usize == layout.mask_token;
            if let Some(bad) = tokens.iter().find(|&&t| !is_token(t)) {
                let (codes, mask) = (layout.codes, layout.mask_token);
                let expected = match mask == codes {
                    true => format!("ids 0 to {mask} ({mask} = mask)"),
                    false => format!("ids 0 to {}, or {mask} (the mask)", codes.saturating_sub(1)),
                };
                return Err(Error::invalid("start_tokens", expected, bad));
            }
        }
        if let Some(edit) = &self.edit {
            edit.validate(&layout)?;
            if self.start_tokens.is_some() {
                return Err(Error::invalid("start_tokens", "none with an edit, which makes them", "some"));
            }
        }
        if let Some(e_in) = &self.e_in {
            if self.start_tokens.is_some() {
                return Err(Error::invalid("start_tokens", "none with e_in, which is made of them", "some"));
            }
            Request::check_counts(&layout, batch, (None, Some(e_in.len())))?;
            if let Some(at) = e_in.iter().position(|v| !v.is_finite()) {
                return Err(Error::invalid("e_in", "finite floats", format!("{} at index {at}", e_in[at])));
            }
        }
        let classes = self.classes(model, batch)?;
        for term in self.optimize.iter().flat_map(|o| &o.terms) {
            term.reward.validate_classes(model, &classes)?;
        }
        let prompts = self.prompts(model, batch)?;
        Ok(Resolved {
            warnings: self.warnings(model, steps, &prompts),
            classes,
            prompts,
            negative_prompt: self.negative_prompt.as_ref().unwrap_or(&teacher.negative_prompt).clone(),
            micro: self.micro(model)?,
            batch,
            seed: self.seed,
            steps,
            decode: self.decode,
            sampling,
            mask_ratio: range("mask_ratio", self.mask_ratio.unwrap_or(defaults.mask_ratio), 0.0, 1.0)?,
            sigma: range("sigma", self.sigma.unwrap_or(defaults.sigma), 0.0, 1.0)?,
            guidance_scale: range(
                "guidance_scale",
                self.guidance_scale.unwrap_or(teacher.guidance_scale),
                0.0,
                1e4,
            )?,
            randomize_temperature: range(
                "randomize_temperature",
                self.randomize_temperature.unwrap_or(teacher.randomize_temperature),
                0.0,
                1e4,
            )?,
            start_tokens: copied("start_tokens", &self.start_tokens)?,
            edit: self.edit.as_ref().map(Edit::copied).transpose()?,
            e_in: copied("e_in", &self.e_in)?,
            report_gap: self.report_gap,
            optimize: self.optimize.clone(),
        })
    }

    /// Refuse so many start tokens, and floats of a start embedding, that are not those of `batch` pictures.
    ///
    /// # Errors
    /// [`Error::InvalidArgument`].
    #[doc(hidden)]
    pub fn check_counts(
        layout: &Layout,
        batch: usize,
        (start_tokens, e_in): (Option<usize>, Option<usize>),
    ) -> Result<()> {
        let Layout { positions, splits, embedding, .. } = *layout;
        let product = |width: usize| batch.saturating_mul(positions).saturating_mul(width);
        let (slots, floats) = (product(splits), product(embedding));
        if let Some(found) = start_tokens.filter(|&found| found != slots) {
            let expected = format!("{slots} ({batch} × {positions} × {splits})");
            return Err(Error::invalid("start_tokens", expected, format!("{found} tokens")));
        }
        if let Some(found) = e_in.filter(|&found| found != floats) {
            let expected = format!("{floats} floats ({batch} × {positions} × {embedding})");
            return Err(Error::invalid("e_in", expected, found));
        }
        Ok(())
    }

    /// What a well-formed request of `steps` steps says and nothing reads.
    fn warnings(&self, model: &Model, steps: u32, prompts: &[String]) -> Vec<String> {
        let (mut warnings, one_step) = (Vec::new(), steps == 1);
        let mut unread = |given: bool, what: &str, why: &str| {
            if given {
                warnings.push(format!("{what} is not used: {why}"));
            }
        };
        let teacher = "only the multi-step sampler reads it (steps > 1)";
        unread(one_step && self.negative_prompt.is_some(), "negative_prompt", teacher);
        unread(one_step && self.guidance_scale.is_some(), "guidance_scale", teacher);
        unread(one_step && self.randomize_temperature.is_some(), "randomize_temperature", teacher);
        let student = "only a one-step job reads it";
        unread(!one_step && self.mask_ratio.is_some(), "mask_ratio", student);
        unread(!one_step && self.sigma.is_some(), "sigma", student);
        let embedded = "the start embedding is given";
        unread(self.e_in.is_some() && self.mask_ratio.is_some(), "mask_ratio", embedded);
        unread(self.e_in.is_some() && self.sigma.is_some(), "sigma", embedded);
        let tokens = self.start_tokens.is_some() && self.mask_ratio.is_some();
        unread(tokens, "mask_ratio", "the start tokens are given");
        let none = self.optimize.as_ref().is_some_and(|o| o.steps == 0);
        unread(none, "the gradient of the rewards", "0 optimisation steps only report what they score");
        if self.labels.is_empty() && !model.labels().is_empty() {
            warnings.push("no label is given: the pictures are of no class in particular".into());
        }

        let mut texts: Vec<(&str, &str)> = Vec::new();
        texts.extend(prompts.iter().map(|prompt| ("prompt", prompt.as_str())));
        if let (false, Some(text)) = (one_step, &self.negative_prompt) {
            texts.push(("negative_prompt", text));
        }
        let rewards = self.optimize.iter().flat_map(|o| &o.terms).filter(|term| term.reward.reads_prompt());
        let rewards: Vec<_> = rewards.collect();
        for (i, (what, text)) in texts.iter().enumerate() {
            if texts[..i].contains(&(what, text)) {
                continue;
            }
            let start: String = text.chars().take(40).collect();
            let mut note = |reader: &str, overflow| {
                warnings.push(format!("{what} \"{start}…\" is too long for {reader}: {overflow}"));
            };
            if let Some(overflow) = model.overflow(text) {
                note("the model", overflow);
            }
            for term in rewards.iter().filter(|_| *what == "prompt") {
                if let Some(overflow) = term.reward.file().and_then(|file| file.overflow(text)) {
                    note(&format!("the reward '{}'", term.reward.name()), overflow);
                }
            }
        }
        warnings
    }

    /// The prompt of every picture, or none. A prompt that nothing reads is refused: it would change nothing.
    fn prompts(&self, model: &Model, batch: usize) -> Result<Vec<String>> {
        let mut terms = self.optimize.iter().flat_map(|o| &o.terms);
        let reader = terms.find(|t| t.reward.reads_prompt()).map(|t| t.reward.name());
        let text = model.architecture().text().is_some();
        let unread = [
            ("prompt", !self.prompts.is_empty() && !text && reader.is_none()),
            ("negative_prompt", self.negative_prompt.is_some() && !text),
        ];
        if let Some((what, _)) = unread.into_iter().find(|(_, unread)| *unread) {
            return Err(Error::Unsupported {
                what: format!("request.{what}"),
                reason: "this model is conditioned on class labels; use label or class_labels".into(),
            });
        }
        match (self.prompts.len(), reader) {
            (0, Some(reader)) => {
                Err(Error::invalid("prompt", format!("a text, which the reward '{reader}' reads"), "none"))
            }
            // The empty prompt is what the model was trained with for none.
            (0, None) if text => Ok(vec![String::new(); batch]),
            (0, None) => Ok(Vec::new()),
            (1, _) => Ok(vec![self.prompts[0].clone(); batch]),
            (n, _) if n == batch => Ok(self.prompts.clone()),
            (n, _) => Err(Error::invalid("prompts", format!("1 or {batch} (one per picture)"), n)),
        }
    }

    /// The micro conditions in the generator's order, the model's own where the request has none.
    fn micro(&self, model: &Model) -> Result<Vec<f32>> {
        let a = model.architecture();
        if a.condition_layout().micro == 0 {
            let given = [
                ("aesthetic_score", self.aesthetic_score.is_some()),
                ("original_size", self.original_size.is_some()),
                ("crop", self.crop.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                None => Ok(Vec::new()),
                Some((what, _)) => Err(Error::Unsupported {
                    what: format!("request.{what}"),
                    reason: format!("{} models are not conditioned on it", a.name()),
                }),
            };
        }
        let defaults = model.defaults().micro.unwrap_or_default();
        let aesthetic_score = self.aesthetic_score.unwrap_or(defaults.aesthetic_score);
        if !(aesthetic_score.is_finite() && (0.0..=100.0).contains(&aesthetic_score)) {
            return Err(Error::invalid("aesthetic_score", "0 to 100", aesthetic_score));
        }
        let sides = |what: &str, value: [u32; 2]| match value.iter().find(|&&side| side > 65_536) {
            None => Ok(value),
            Some(side) => Err(Error::invalid(what, "0 to 65536", side)),
        };
        Ok(a.micro(&MicroConditions {
            aesthetic_score,
            original_size: sides("original_size", self.original_size.unwrap_or(defaults.original_size))?,
            crop: sides("crop", self.crop.unwrap_or(defaults.crop))?,
        }))
    }

    /// The class id of every picture.
    fn classes(&self, model: &Model, batch: usize) -> Result<Vec<i64>> {
        let classes = model.architecture().layout().classes;
        if model.architecture().text().is_some() {
            return match self.labels.first() {
                None => Ok(vec![0; batch]),
                Some(_) => Err(Error::Unsupported {
                    what: "a class label".into(),
                    reason: "this model is conditioned on a prompt; use prompt".into(),
                }),
            };
        }
        let ids = self.labels.iter().map(|label| match label {
            Label::Name(name) => model.class_of(name).map(|c| c as i64),
            Label::Class(id) if *id as usize <= classes => Ok(i64::from(*id)),
            Label::Class(id) => {
                Err(Error::invalid("class", format!("0 to {classes} ({classes} = no label)"), id))
            }
        });
        let ids = ids.collect::<Result<Vec<i64>>>()?;
        match ids.len() {
            0 => Ok(vec![classes as i64; batch]),
            1 => Ok(vec![ids[0]; batch]),
            n if n == batch => Ok(ids),
            n => Err(Error::invalid("labels", format!("1 or {batch} (one per picture)"), n)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model_file::WeightsMode;

    #[test]
    fn start_tokens_that_nothing_would_read_are_refused() {
        let file =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
        let model = Model::open(&file, WeightsMode::default(), Default::default()).unwrap();
        let layout = model.architecture().layout();
        let tokens = Request { start_tokens: Some(vec![0; layout.slots()]), ..Request::default() };
        tokens.resolve(&model).unwrap();
        let both = Request { e_in: Some(vec![0.0; layout.positions * layout.embedding]), ..tokens };
        assert_eq!(
            both.resolve(&model).unwrap_err().to_string(),
            "start_tokens: expected none with e_in, which is made of them, found some"
        );
    }
}
