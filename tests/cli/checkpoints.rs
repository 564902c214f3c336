//! Checkpoints as trainers, downloads and other programs leave them.

use std::path::{Path, PathBuf};

use softdimo::Tensor;
use support::checkpoints::{Saved, Tensors, safetensors, tensors, torch, torch_nested};
use support::data;

use super::{fails, softdimo};

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The tiny MaskGIT's generator.
fn generator() -> Tensors {
    let f32 =
        |t: Tensor| Tensor::from_f32_vec(t.shape().clone(), t.to_f64().iter().map(|&v| v as f32).collect());
    tensors(&data("maskgit/generator.safetensors")).into_iter().map(|(name, t)| (name, f32(t))).collect()
}

fn prefixed(prefix: &str) -> Tensors {
    generator().into_iter().map(|(name, tensor)| (format!("{prefix}{name}"), tensor)).collect()
}

/// Other weights of the same network.
fn others() -> Tensors {
    let other = |t: Tensor| {
        Tensor::from_f32_vec(t.shape().clone(), t.f32s().unwrap().iter().map(|v| v * 0.5).collect())
    };
    generator().into_iter().map(|(name, tensor)| (name, other(tensor))).collect()
}

fn arguments(teacher: &Path, output: &Path, more: &[&str]) -> Vec<String> {
    let all =
        ["convert", "maskgit", "--teacher", &text(teacher), "--tokenizer", &text(&data("maskgit/last.ckpt"))]
            .map(String::from);
    let output = ["-o".into(), text(output)];
    all.into_iter().chain(output).chain(more.iter().map(|a| a.to_string())).collect()
}

/// The model file that comes of a checkpoint, and what is said on the way.
fn converted(teacher: &Path, more: &[&str]) -> (Vec<u8>, String) {
    let output = teacher.with_extension("out.softdimo.safetensors");
    let arguments = arguments(teacher, &output, &[&["--heads", "4"], more].concat());
    let done = softdimo(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(done.status.success(), "{stderr}");
    (std::fs::read(output).unwrap(), stderr)
}

/// Why a checkpoint is refused.
fn refused(teacher: &Path, more: &[&str]) -> String {
    let output = teacher.with_extension("out.softdimo.safetensors");
    drop(std::fs::remove_file(&output));
    let arguments = arguments(teacher, &output, more);
    let why = fails(1, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(!output.exists());
    why
}

#[test]
fn wrapped_checkpoints_convert_to_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let (plain, said) = converted(
        &{
            safetensors(&file("plain.safetensors"), &generator());
            file("plain.safetensors")
        },
        &[],
    );
    assert!(!said.contains("plain.safetensors: read"), "{said}");
    for prefix in
        ["_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "net.", "state_dict.model.", "ema_model."]
    {
        safetensors(&file("wrapped.safetensors"), &prefixed(prefix));
        assert!(converted(&file("wrapped.safetensors"), &[]).0 == plain, "{prefix}");
        torch(&file("wrapped.pth"), &prefixed(prefix), &[]);
        assert!(converted(&file("wrapped.pth"), &[]).0 == plain, "{prefix}");
    }
    let inner = prefixed("model.module.");
    let metrics = [("loss".to_string(), Tensor::from_f32_vec([1], vec![0.25]))];
    let lightning = Saved::Dictionaries(vec![
        ("callbacks", Saved::Dictionaries(Vec::new())),
        ("state_dict", Saved::Tensors(&inner)),
        ("metrics", Saved::Tensors(&metrics)),
    ]);
    torch_nested(&file("lightning.ckpt"), &lightning);
    let (bytes, said) = converted(&file("lightning.ckpt"), &[]);
    assert!(bytes == plain);
    assert!(said.contains("lightning.ckpt: read the weights 'state_dict.model.module'\n"), "{said}");
}

#[test]
fn averaged_weights_go_first_and_the_others_can_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let (real, other) = (generator(), others());
    safetensors(&file("plain.safetensors"), &real);
    safetensors(&file("other.safetensors"), &other);
    let [plain, raw] = ["plain.safetensors", "other.safetensors"].map(|name| converted(&file(name), &[]).0);
    assert!(plain != raw);
    for average in ["ema", "ema_model", "model_ema", "state_dict_ema", "params_ema", "swa_model"] {
        let both = vec![("model", Saved::Tensors(&other)), (average, Saved::Tensors(&real))];
        torch_nested(&file("both.pth"), &Saved::Dictionaries(both));
        let (bytes, said) = converted(&file("both.pth"), &[]);
        assert!(bytes == plain, "{average}");
        assert!(
            said.contains(&format!("both.pth: read the averaged weights '{average}', not 'model'")),
            "{said}"
        );
        assert!(converted(&file("both.pth"), &["--weights", "averaged"]).0 == plain);
        assert!(converted(&file("both.pth"), &["--weights", "raw"]).0 == raw);
        assert!(converted(&file("both.pth"), &["--weights", average]).0 == plain);
    }
    let two = vec![("a", Saved::Tensors(&other)), ("b", Saved::Tensors(&real))];
    torch_nested(&file("two.pth"), &Saved::Dictionaries(two));
    let why = refused(&file("two.pth"), &[]);
    assert!(why.contains("expected one set of weights") && why.contains("found 'a', 'b'"), "{why}");
    assert!(converted(&file("two.pth"), &["--weights", "b"]).0 == plain);
    let why = refused(&file("plain.safetensors"), &["--weights", "averaged"]);
    assert!(why.contains("expected one set of averaged weights"), "{why}");

    let shadow = vec![("shadow_params", Saved::List(&real))];
    let both = vec![("model", Saved::Tensors(&other)), ("ema", Saved::Dictionaries(shadow))];
    torch_nested(&file("nameless.pth"), &Saved::Dictionaries(both));
    let why = refused(&file("nameless.pth"), &["--heads", "4"]);
    assert!(why.contains("'ema' without the names"), "{why}");
    assert!(converted(&file("nameless.pth"), &["--weights", "raw"]).0 == raw);
}

#[test]
fn checkpoints_of_other_networks_are_told_by_their_tensors() {
    let folder = tempfile::tempdir().unwrap();
    let why = refused(&data("maskbit/generator.bin"), &["--heads", "4"]);
    assert!(
        why.contains("expected a MaskGIT transformer's tensors, such as 'tok_emb.weight', found"),
        "{why}"
    );
    assert!(why.contains(" tensors, among them 'bits_to_indices' i32[") && why.len() < 600, "{why}");
    // The right network in another version: what comes nearest is shown.
    let file = folder.path().join("renamed.safetensors");
    let mut renamed = generator();
    for (name, _) in &mut renamed {
        *name = name.replace("last_layer.0.weight", "last_layer.zero.weight");
    }
    safetensors(&file, &renamed);
    let why = refused(&file, &["--heads", "4"]);
    assert!(
        why.contains("tensor 'last_layer.0.weight': expected")
            && why.contains("'last_layer.zero.weight' f32[32]"),
        "{why}"
    );
    // The next model of the same project.
    let mut newer = prefixed("");
    newer.retain(|(name, _)| !name.starts_with("first_layer"));
    newer.push(("cls_emb.weight".into(), Tensor::from_f32_vec([1], vec![0.0])));
    safetensors(&file, &newer);
    let why = refused(&file, &["--heads", "4"]);
    assert!(
        why.contains("the AdaLN transformer in renamed.safetensors") && why.contains("after v1.0"),
        "{why}"
    );
}

#[test]
fn what_no_tensor_shows_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plain.safetensors");
    safetensors(&file, &generator());
    let why = refused(&file, &[]);
    assert!(
        why.contains("config 'heads': expected the number of attention heads, by --heads or --config"),
        "{why}"
    );
    converted(&file, &[]);
}

#[test]
fn weights_that_are_no_numbers_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| -> PathBuf { folder.path().join(name) };
    let mut bad = generator();
    let at = bad.iter().position(|(name, _)| name == "tok_emb.weight").unwrap();
    let mut values = bad[at].1.f32s().unwrap().to_vec();
    values[50] = f32::NAN;
    bad[at].1 = Tensor::from_f32_vec(bad[at].1.shape().clone(), values);
    torch(&file("nan.pth"), &bad, &[]);
    let why = refused(&file("nan.pth"), &["--heads", "4"]);
    let tensor =
        "tensor 'teacher.tok_emb.weight': expected finite values, found NaN at [1, 18], 1 such in f32[";
    assert!(why.contains(tensor) && why.contains("in nan.pth"), "{why}");

    safetensors(&file("good.safetensors"), &generator());
    converted(&file("good.safetensors"), &[]);
    let model = file("good.out.softdimo.safetensors");
    let mut damaged = support::safetensors_file::File::read(&model);
    damaged.tensor("teacher.tok_emb.weight")[..4].copy_from_slice(&f32::INFINITY.to_le_bytes());
    std::fs::write(&model, damaged.bytes()).unwrap();
    let output = text(&file("narrow.softdimo.safetensors"));
    let why = fails(1, &["quantize", &text(&model), "--dtype", "f16", "-o", &output]);
    assert!(
        why.contains("tensor 'teacher.tok_emb.weight': expected finite values")
            && why.contains("inf at [0, 0]"),
        "{why}"
    );
}
