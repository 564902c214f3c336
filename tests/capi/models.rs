//! The fixture model as a file, and model files that break one rule each.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use softdimo::convert;
use support::data;
use support::maskbit::LABELS;
use support::rewards as official;
use support::safetensors_file::File;

/// The reward files of `rewards.c`: `clip`, `turned` and `cut`.
pub fn rewards(folder: &Path) {
    let write = |name: &str, source: &convert::RewardSource| {
        convert::reward(source, &folder.join(name), |_, _| ()).unwrap();
    };
    let negate = |tensors: &mut official::Tensors| tensors.negate("text_projection.weight");
    write("clip", &official::clip_score(&folder.join("official")).source);
    write("turned", &official::clip_score_with(&folder.join("official"), negate).source);
    let whole = std::fs::read(folder.join("clip")).unwrap();
    std::fs::write(folder.join("cut"), &whole[..whole.len() / 2]).unwrap();
}

/// Write one file for each row of the table in `bad_input.c`.
pub fn hostile(model: &Path, folder: &Path) {
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.join(name), bytes).unwrap();
    let whole = std::fs::read(model).unwrap();
    let header_end = 8 + u64::from_le_bytes(whole[..8].try_into().unwrap()) as usize;
    write("empty", b"");
    write("cut_in_length", &whole[..5]);
    write("cut_in_header", &whole[..header_end / 2]);
    write("cut_after_header", &whole[..header_end]);
    write("cut_in_half", &whole[..whole.len() / 2]);
    write("cut_by_one", &whole[..whole.len() - 1]);
    write("longer_by_one", &[whole.as_slice(), b"x"].concat());
    write("magic", b"GGUF\x03\0\0\0 and so on, for more than eight bytes");
    write("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n");
    write("header_overflow", &[&u64::MAX.to_le_bytes(), &whole[8..]].concat());
    write("pytorch_file", &std::fs::read(data("maskbit/generator.bin")).unwrap());

    let file = File::read(model);
    let changed = |name: &str, change: &dyn Fn(&mut File)| {
        let mut file = file.clone();
        change(&mut file);
        write(name, &file.bytes());
    };
    const TENSOR: &str = "student.input_proj.weight";
    let size = file.data.len();
    changed("overlap", &|f| {
        f.header[TENSOR]["data_offsets"] = f.header["student.mask_token"]["data_offsets"].clone()
    });
    changed("out_of_range", &|f| {
        f.header[TENSOR]["data_offsets"] = json!([size - 4, size - 4 + 48 * 14 * 4])
    });
    changed("offsets_overflow", &|f| f.header[TENSOR]["data_offsets"] = json!([u64::MAX - 3, u64::MAX]));
    changed("missing_tensor", &|f| f.rename(TENSOR, "student.another.weight"));
    changed("wrong_shape", &|f| f.header[TENSOR]["shape"] = json!([14, 48]));
    changed("wrong_rank", &|f| f.header[TENSOR]["shape"] = json!([48 * 14]));
    changed("wrong_dtype", &|f| f.header[TENSOR]["dtype"] = "I32".into());
    changed("no_decoder", &|f| {
        let names: Vec<String> = f.header.as_object().unwrap().keys().cloned().collect();
        for name in names.iter().filter(|n| n.starts_with("decoder.")) {
            f.rename(name, &format!("x{name}"));
        }
    });
    changed("no_format", &|f| drop(f.metadata().remove("softdimo.format")));
    changed("other_format", &|f| drop(f.metadata().insert("softdimo.format".into(), "99".into())));
    changed("no_config", &|f| drop(f.metadata().remove("softdimo.config")));
    changed("config_is_not_json", &|f| drop(f.metadata().insert("softdimo.config".into(), "{".into())));
    changed("config_other_family", &|f| f.config(|c| c["family"] = "other".into()));
    changed("config_zero_size", &|f| f.config(|c| c["generator"]["hidden_dim"] = 0.into()));
    changed("config_huge_size", &|f| f.config(|c| c["generator"]["depth"] = (1u64 << 40).into()));
    changed("config_zero_heads", &|f| f.config(|c| c["generator"]["heads"] = 0.into()));
    changed("config_zero_stride", &|f| f.config(|c| c["generator"]["input_stride"] = 0.into()));
    changed("config_more_layers", &|f| f.config(|c| c["generator"]["depth"] = 4.into()));
    changed("config_nan_default", &|f| f.config(|c| c["request_defaults"]["temperature"] = Value::Null));
    changed("labels_are_not_json", &|f| drop(f.metadata().insert("softdimo.labels".into(), "red".into())));
    changed("labels_too_few", &|f| {
        let three = json!([{"name": "a"}, {"name": "b"}, {"name": "c"}]).to_string();
        f.metadata().insert("softdimo.labels".into(), three.into());
    });
}

/// The tensors of the golden file that `parity.c` reads, as raw bytes in `folder/b0` and `folder/b1`.
pub fn golden(folder: &Path) -> Vec<PathBuf> {
    let file = File::read(&data("maskbit/golden.safetensors"));
    let tensor = |name: &str| {
        let range = &file.header[name]["data_offsets"];
        let at = |i: usize| range[i].as_u64().unwrap() as usize;
        &file.data[at(0)..at(1)]
    };
    let integers = |name: &str| -> Vec<i64> {
        tensor(name).chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap())).collect()
    };
    let batches = ["b0", "b1"].into_iter().map(|batch| {
        let folder = folder.join(batch);
        std::fs::create_dir(&folder).unwrap();
        let words = |name: &str, words: Vec<i64>| {
            let bytes: Vec<u8> = words.iter().flat_map(|&w| (w as i32).to_le_bytes()).collect();
            std::fs::write(folder.join(name), bytes).unwrap();
        };
        // A dropped label is the class after the last.
        let labels = integers(&format!("{batch}/in/labels"));
        let dropped = integers(&format!("{batch}/in/drop_label"));
        let classes = labels.iter().zip(dropped).map(|(&l, d)| if d == 0 { l } else { LABELS.len() as i64 });
        words("classes", classes.collect());
        words("tokens", integers(&format!("{batch}/out/tokens_argmax")));
        for name in ["e_in", "image_hard", "image_soft"] {
            std::fs::write(folder.join(name), tensor(&format!("{batch}/out/{name}"))).unwrap();
        }
        folder
    });
    batches.collect()
}
