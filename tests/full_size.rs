//! Full-size models with random weights under the official names convert, open lean without reading or copying their
//! weights, and generate; MaskBit also climbs, with and without recomputation. Figures are printed; what is bounded is
//! conversion, opening, and what recomputation may change and must. The models of gigabytes are for
//! `examples/rust/full_size`. Run by `make test-full`.

#[path = "../examples/rust/full_size/published/mod.rs"]
mod published;

use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use published::Published;
use softdimo::families::condition::Condition;
use softdimo::graph::{Graph, grad, grad_recomputing, simplify};
use softdimo::rng::{Philox, Stream};
use softdimo::tensor::{Dtype, Tensor};
use softdimo::{Engine, Options};

fn softdimo(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_softdimo")).args(arguments).output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "softdimo {arguments:?}: {out}{err}");
    out.into_owned()
}

/// Run `softdimo` and return the most memory it had beside mapped files, in KiB, as /proc shows it; 0 elsewhere.
fn peak_anonymous(arguments: &[&str]) -> i64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
    let mut child = command.args(arguments).stdout(Stdio::null()).spawn().unwrap();
    let status = format!("/proc/{}/status", child.id());
    let mut peak = 0;
    let exit = loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        let line = text.lines().find_map(|l| l.strip_prefix("RssAnon:"));
        let anon = line.and_then(|l| l.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        peak = anon.max(peak);
        match child.try_wait().unwrap() {
            Some(exit) => break exit,
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    assert!(exit.success(), "softdimo {arguments:?}");
    peak
}

/// The model file of a published model, and the most memory its conversion had in KiB; the checkpoints' parameters
/// are in these ranges of millions.
fn converted(model: &str, millions: &[Range<usize>], folder: &Path) -> (String, i64) {
    let published = Published::of(model).unwrap();
    for ((name, parameters), range) in published.parameters().into_iter().zip(millions) {
        println!("{model}: {name} of {parameters} parameters");
        assert!(range.contains(&(parameters / 1_000_000)), "{model}: {name} of {parameters} parameters");
    }
    let source = published.write(folder).unwrap();
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let output = path(&folder.join("full.softdimo.safetensors"));
    let (generator, tokenizer) = (path(source.generator.as_ref().unwrap()), path(&source.tokenizer));
    let mut arguments = vec!["convert", published.family, "-o", &output];
    arguments.extend(["--generator", &generator, "--tokenizer", &tokenizer]);
    let config = source.config.as_deref().map(path);
    arguments.extend(config.iter().flat_map(|config| ["--config", config]));
    let peak = peak_anonymous(&arguments);
    println!("conversion: peak RssAnon {peak} KiB");
    [generator, tokenizer].iter().for_each(|file| std::fs::remove_file(file).unwrap());
    (output, peak)
}

/// Held by a test while it measures, and while its gigabytes lie on the disk.
fn one_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The number that follows `before` in a line of `softdimo bench`.
fn figure(report: &str, line: &str, before: &str) -> f64 {
    let line = report.lines().find(|l| l.starts_with(line)).unwrap();
    let rest = &line[line.find(before).unwrap() + before.len()..];
    rest.trim_start_matches([' ', '+']).split(' ').next().unwrap().parse().unwrap()
}

#[test]
fn full_size_maskbit_opens_lean() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (model, _) = converted("maskbit", &[300..306, 54..58], folder.path());
    for memory in ["lean", "fast"] {
        let report = softdimo(&["bench", "generate", "--model", &model, "--memory", memory, "--runs", "2"]);
        println!("{report}");
        if memory == "lean" {
            opened_without_its_weights(&report);
            let [needed, held] =
                ["activations", "RssAnon"].map(|before| figure(&report, "activations", before));
            assert!(held < 1.3 * needed, "{held} KiB in a run that needs {needed}");
        }
        let optimize = ["bench", "optimize", "--model", &model, "--memory", memory, "--runs", "2"];
        let plain = softdimo(&optimize);
        println!("{plain}");
        let again = softdimo(&[&optimize[..], &["--recompute"]].concat());
        println!("{again}");
        let [all, few] =
            [&plain, &again].map(|report| ["activations", "RssAnon"].map(|line| figure(report, line, line)));
        assert!(few[0] < 0.5 * all[0], "{memory}: {} KiB with recomputation, {} without", few[0], all[0]);
        // Packed weights stay, and what is run holds less than what is written: gradients of normalisations are one operator.
        let less = all[1] - few[1];
        assert!(less > 64.0 * 1024.0, "{memory}: RssAnon falls by {less} KiB");
    }
    the_gradient_is_the_same(&model);
}

/// MaskGIT at 256×256; its checkpoints carry no configuration.
#[test]
fn full_size_maskgit_opens_lean() {
    let _alone = one_at_a_time();
    let folder = tempfile::tempdir().unwrap();
    let (model, peak) = converted("maskgit", &[174..176, 72..74], folder.path());
    assert!(peak < 300 * 1024, "conversion: expected less than 300 MB of memory, found {peak} KiB");
    let report = softdimo(&["bench", "generate", "--model", &model, "--runs", "1"]);
    println!("{report}");
    opened_without_its_weights(&report);
}

/// No page of a weight was read or copied to open the model, by the report of `softdimo bench`.
fn opened_without_its_weights(report: &str) {
    for kind in ["RssAnon", "RssFile"] {
        let kilobytes = figure(report, kind, kind);
        assert!(
            kilobytes < 60.0 * 1024.0,
            "{kind} after open: expected less than 60 MB, found {kilobytes} KiB"
        );
    }
}

/// ∂(mean square of the soft picture)/∂e_in with and without recomputation.
fn the_gradient_is_the_same(model: &str) {
    let engine = Engine::open(model, Options::default()).unwrap();
    let (a, w) = (engine.model().architecture(), engine.model().weights());
    let (l, s) = (a.layout(), w.at("student"));
    let rng = Philox::new(1);
    let mut e_in = vec![0f32; l.positions * l.embedding];
    rng.fill_gaussian(Stream::Perturbation, 0, &mut e_in);
    let gradient = |recompute: bool| -> Vec<f64> {
        let g = Graph::new();
        let e = g.input("e", Dtype::F32, [1, l.positions, l.embedding]).unwrap();
        let class = g.constant(Tensor::from_i64([1], &[207])).unwrap();
        let condition = Condition::class(a.embed_class(&g, &s, class).unwrap());
        let p = g.softmax(a.logits(&g, &s, e, &condition).unwrap(), 3).unwrap();
        let image = a.decode(&g, &w, a.soft_embedding(&g, &w, p).unwrap(), None).unwrap();
        let loss = g.reduce_mean(g.mul(image, image).unwrap(), &[0, 1, 2, 3]).unwrap();
        let differentiate = if recompute { grad_recomputing } else { grad };
        g.output("gradient", differentiate(&g, loss, &[e]).unwrap()[0]);
        let e_in = Tensor::from_f32([1, l.positions, l.embedding], &e_in);
        let mut results = engine.run_graph(simplify(&g).unwrap(), vec![("e".into(), e_in)]).unwrap();
        results.remove(0).1.to_f64()
    };
    let (plain, again) = (gradient(false), gradient(true));
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut plain.iter().copied());
    let error = norm(&mut plain.iter().zip(&again).map(|(a, b)| a - b)) / size;
    println!("gradient of norm {size:.3e}; with recomputation {error:.1e} apart");
    // A tenth of what a gradient may be off its reference: the runtime fuses the two graphs differently.
    assert!(size > 0.0 && error <= 1e-5, "{error}");
}
