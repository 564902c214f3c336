//! The files of `files.rs`: small ones that claim much.

use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use softdimo::convert::Storage;
use support::rewards::{clip_score, convert};
use support::safetensors_file::File;
use support::{data, maskbit};

use super::files::{Case, Kind};
use super::{Entry, entry, int, pickle, safetensors, tensor, text, torch, tuple, zip};

struct Cases {
    folder: PathBuf,
    list: Vec<Case>,
}

impl Cases {
    fn add(&mut self, kind: Kind, name: &'static str, words: &'static str, bytes: &[u8]) {
        let path = self.folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        self.list.push(Case { name, kind, words, path });
    }

    /// `file` with a change.
    fn changed(
        &mut self,
        kind: Kind,
        name: &'static str,
        words: &'static str,
        file: &File,
        change: impl FnOnce(&mut File),
    ) {
        let mut file = file.clone();
        change(&mut file);
        self.add(kind, name, words, &file.bytes());
    }
}

pub fn all(folder: &Path) -> Vec<Case> {
    let mut cases = Cases { folder: folder.join("cases"), list: Vec::new() };
    std::fs::create_dir(&cases.folder).unwrap();
    let model = maskbit::labelled(folder);
    headers(&mut cases, &std::fs::read(&model).unwrap());
    models(&mut cases, &File::read(&model));
    scales(&mut cases, &File::read(&maskbit::stored(folder, Storage::Int8)));
    int4(&mut cases, &File::read(&maskbit::stored(folder, Storage::Int4)));
    sparse(&mut cases, &File::read(&model));
    checkpoints(&mut cases);
    let clip = clip_score(&folder.join("official")).source;
    rewards(&mut cases, &File::read(&convert(&clip, folder, "reward")));
    golden(&mut cases);
    png(&mut cases);
    vocabularies(&mut cases);
    cases.list
}

fn headers(cases: &mut Cases, whole: &[u8]) {
    use Kind::Model;
    cases.add(Model, "model", "", whole);
    let length = |n: u64| [&n.to_le_bytes(), &whole[8..]].concat();
    cases.add(Model, "header_of_2_64_bytes", "header length: expected at most", &length(u64::MAX));
    cases.add(Model, "header_of_no_bytes", "header", &length(0));
    cases.add(
        Model,
        "header_longer_than_file",
        "header length: expected at most",
        &length(whole.len() as u64),
    );
    cases.add(Model, "header_cut", "header", &length(100));
    cases.add(Model, "data_cut", "cut short", &whole[..whole.len() - 1]);
    let nested = |n: usize| "[".repeat(n) + &"]".repeat(n);
    cases.add(
        Model,
        "header_nested_deep",
        "header",
        &safetensors(&format!("{{\"a\":{}}}", nested(1_000_000)), 0),
    );
    let mut many = String::from("{");
    for i in 0..400_000 {
        many += &format!("\"t{i}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}},");
    }
    many.pop();
    cases.add(Model, "400000_empty_tensors", "softdimo.format", &safetensors(&(many + "}"), 0));
    let name = "n".repeat(4 << 20);
    let long = format!("{{\"{name}\":{{\"dtype\":\"U8\",\"shape\":[0],\"data_offsets\":[0,0]}}}}");
    cases.add(Model, "name_of_4_mib", "", &safetensors(&long, 0));
    cases.list.last_mut().unwrap().words = "error";
}

fn models(cases: &mut Cases, file: &File) {
    use Kind::Model;
    const TENSOR: &str = "student.input_proj.weight";
    let metadata = |key: &'static str, value: String| {
        move |f: &mut File| drop(f.metadata().insert(key.into(), value.into()))
    };
    let nested = "[".repeat(1 << 20);
    cases.changed(
        Model,
        "config_nested_deep",
        "softdimo.config",
        file,
        metadata("softdimo.config", nested.clone()),
    );
    cases.changed(Model, "labels_nested_deep", "labels", file, metadata("softdimo.labels", nested));
    let labels = json!(vec![json!({"name": "a"}); 1_000_000]).to_string();
    cases.changed(Model, "labels_a_million", "expected 10", file, metadata("softdimo.labels", labels));
    let long =
        json!((0..10).map(|i| json!({"name": format!("{i}{}", "x".repeat(1 << 20))})).collect::<Vec<_>>())
            .to_string();
    cases.changed(Model, "labels_of_a_mebibyte", "", file, metadata("softdimo.labels", long));
    let title = "t".repeat(8 << 20);
    cases.changed(Model, "title_of_8_mib", "", file, metadata("modelspec.title", title));

    let mut sizes = |name, words, key: &'static str, value: Value| {
        let change = move |f: &mut File| {
            f.config(|c| {
                let part = if c["generator"].get(key).is_some() { "generator" } else { "tokenizer" };
                c[part][key] = value;
            })
        };
        cases.changed(Model, name, words, file, change);
    };
    sizes("depth_1024", "no such tensor", "depth", json!(1024));
    sizes("depth_2_40", "'depth'", "depth", json!(1u64 << 40));
    sizes("depth_negative", "softdimo.config", "depth", json!(-1));
    sizes("depth_a_float", "softdimo.config", "depth", json!(3.5));
    sizes("width_2_20", "tensor 'student", "hidden_dim", json!(1 << 20));
    sizes("width_2_63", "hidden_dim", "hidden_dim", json!(1u64 << 63));
    sizes("heads_0", "heads", "heads", json!(0));
    sizes("heads_5", "heads", "heads", json!(5));
    sizes("bits_24", "token_size", "token_size", json!(24));
    sizes("splits_0", "codebook_splits", "codebook_splits", json!(0));
    sizes("picture_of_4096", "", "img_size", json!(4096));
    sizes("picture_of_2_20", "img_size", "img_size", json!(1 << 20));
    sizes("stride_2_40", "input_stride", "input_stride", json!(1u64 << 40));
    sizes("resolutions_64", "error", "num_resolutions", json!(64));
    sizes("factors_of_2_40", "channel_mult", "channel_mult", json!([1u64 << 40, 1, 1]));
    sizes("classes_2_20", "", "nclass", json!(1 << 20));
    for case in cases.list.iter_mut().filter(|case| ["picture_of_4096", "classes_2_20"].contains(&case.name))
    {
        case.words = "error";
    }

    for (name, key, value) in [
        ("temperature_1e308", "temperature", json!(1e308)),
        ("mask_ratio_2", "mask_ratio", json!(2.0)),
        ("sigma_negative", "sigma", json!(-1.0)),
    ] {
        cases.changed(Model, name, "request_defaults", file, |f| {
            f.config(|c| c["request_defaults"][key] = value)
        });
    }
    let shape = |name, words, cases: &mut Cases, shape: Value| {
        cases.changed(Model, name, words, file, |f| f.header[TENSOR]["shape"] = shape);
    };
    shape("shape_overflows", "shape", cases, json!([u64::MAX, u64::MAX]));
    shape("shape_of_zeros", "tensor", cases, json!([0, 0]));
    shape("shape_of_64_axes", "tensor", cases, json!(vec![1; 64]));
    cases.changed(Model, "dtype_f8", "dtype", file, |f| f.header[TENSOR]["dtype"] = "F8_E4M3".into());
    cases.changed(Model, "dtype_i8_without_scales", "error", file, |f| {
        f.header[TENSOR]["dtype"] = "I8".into()
    });
    cases.changed(Model, "offsets_backwards", "data_offsets", file, |f| {
        let offsets = f.header[TENSOR]["data_offsets"].as_array().unwrap().clone();
        f.header[TENSOR]["data_offsets"] = json!([offsets[1], offsets[0]]);
    });
    for (name, value, words) in [
        ("weights_nan", f32::NAN, "expected a finite number"),
        ("weights_infinite", f32::INFINITY, "expected a finite number"),
    ] {
        cases.changed(Model, name, words, file, |f| {
            f.tensor(TENSOR).chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&value.to_le_bytes()));
        });
    }
    cases.changed(Model, "weights_nan_in_decoder", "", file, |f| {
        let names: Vec<String> =
            f.header.as_object().unwrap().keys().filter(|n| n.starts_with("decoder.")).cloned().collect();
        for name in names {
            f.tensor(&name).chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&f32::NAN.to_le_bytes()));
        }
    });
}

fn scales(cases: &mut Cases, file: &File) {
    let names = file.header.as_object().unwrap();
    let int8 = |name: &&String| names[*name]["dtype"] == "I8" && name.starts_with("student.");
    let weight = names.keys().find(int8).expect("an int8 weight").clone();
    let scale = softdimo::quant::scale_name(&weight);
    for (name, value) in
        [("scale_nan", f32::NAN), ("scale_negative", -1.0), ("scale_infinite", f32::INFINITY)]
    {
        cases.changed(Kind::Model, name, "expected finite scales", file, |f| {
            f.tensor(&scale)[..4].copy_from_slice(&value.to_le_bytes());
        });
    }
    cases.changed(Kind::Model, "scales_of_1e38", "error", file, |f| {
        f.tensor(&scale).chunks_exact_mut(4).for_each(|b| b.copy_from_slice(&1e38f32.to_le_bytes()));
    });
}

/// What is unpacked on opening.
fn int4(cases: &mut Cases, file: &File) {
    const MATRIX: &str = "student.transformer.layers.0.1.net.0.weight"; // [96, 48]
    let (int4, scale) = (softdimo::quant::int4_name(MATRIX), softdimo::quant::scale_name(MATRIX));
    let model = Kind::Model;
    cases.changed(model, "int4", "", file, |_| ());
    let bytes = file.bytes();
    cases.add(model, "int4_cut", "cut short", &bytes[..bytes.len() - 1]);
    for (name, value) in
        [("int4_scale_nan", half::f16::NAN), ("int4_scale_infinite", half::f16::NEG_INFINITY)]
    {
        cases.changed(model, name, "expected finite scales", file, |f| {
            f.tensor(&scale)[..2].copy_from_slice(&value.to_le_bytes());
        });
    }
    cases.changed(model, "int4_scales_of_65504", "", file, |f| {
        f.tensor(&scale).chunks_exact_mut(2).for_each(|b| b.copy_from_slice(&half::f16::MAX.to_le_bytes()));
    });
    // Neither says how long the scales are that it would be given.
    cases.changed(model, "int4_without_inputs", "neither of them 0", file, |f| {
        for (name, dtype, shape) in
            [("a.int4", "U8", json!([0, 1u64 << 40])), ("a.scale", "F16", json!([0, 1u64 << 41]))]
        {
            f.header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [0, 0]});
        }
    });
    cases.changed(model, "int4_without_scales", "of the scales of int4", file, |f| {
        f.rename(&scale, "elsewhere")
    });
    // Holes that would be 8 GiB.
    for (kind, name, words) in [
        (Kind::LimitedModel, "int4_of_holes_limited", "memory limit of 100000000 bytes"),
        (model, "int4_of_holes", "no such memory free"),
    ] {
        // Wine does not refuse memory.
        if cfg!(windows) && kind == model {
            continue;
        }
        let mut sparse = file.clone();
        sparse.rename(&int4, "elsewhere");
        sparse.rename(&scale, "elsewhere too");
        let (inputs, outputs) = (1u64 << 20, 1u64 << 13);
        let mut at = sparse.data.len() as u64;
        let mut add = |name: &str, dtype: &str, shape: [u64; 2], bytes: u64| {
            sparse.header[name] = json!({"dtype": dtype, "shape": shape, "data_offsets": [at, at + bytes]});
            at += bytes;
        };
        add(&int4, "U8", [inputs, outputs / 2], inputs * outputs / 2);
        add(&scale, "F16", [inputs / 32, outputs], inputs / 32 * outputs * 2);
        cases.add(kind, name, words, &sparse.bytes());
        let out = std::fs::OpenOptions::new().write(true).open(&cases.list.last().unwrap().path).unwrap();
        let grown = at - sparse.data.len() as u64;
        out.set_len(out.metadata().unwrap().len() + grown).unwrap();
    }
}

/// Files of holes: their weights are all there, and take no room.
fn sparse(cases: &mut Cases, file: &File) {
    let mut write = |kind, name: &'static str, words, change: &dyn Fn(&mut File)| {
        let mut file = file.clone();
        change(&mut file);
        let mut at = 0;
        for (_, tensor) in
            file.header.as_object_mut().unwrap().iter_mut().filter(|(name, _)| *name != "__metadata__")
        {
            let size = if tensor["dtype"] == "I64" { 8 } else { 4 };
            let count: u64 =
                tensor["shape"].as_array().unwrap().iter().map(|n| n.as_u64().unwrap()).product();
            tensor["data_offsets"] = json!([at, at + size * count]);
            at += size * count;
        }
        file.data.clear();
        cases.add(kind, name, words, &file.bytes());
        let mut out = std::fs::OpenOptions::new().write(true).open(&cases.list.last().unwrap().path).unwrap();
        let header = out.seek(SeekFrom::End(0)).unwrap();
        out.set_len(header + at).unwrap();
        out.flush().unwrap();
    };
    let layers = |count: usize| {
        move |f: &mut File| {
            f.config(|c| c["generator"]["depth"] = json!(count));
            for part in ["student", "teacher"] {
                let first = format!("{part}.transformer.layers.0.");
                let tensors: Vec<(String, Value)> = f
                    .header
                    .as_object()
                    .unwrap()
                    .iter()
                    .filter_map(|(n, v)| Some((n.strip_prefix(&first)?.to_string(), v.clone())))
                    .collect();
                for i in 0..count {
                    for (name, tensor) in &tensors {
                        f.header[&format!("{part}.transformer.layers.{i}.{name}")] = tensor.clone();
                    }
                }
            }
        }
    };
    write(Kind::Model, "layers_1024", "nodes (work_limit / 2), found", &layers(1024));
    let positions = |side: usize| {
        move |f: &mut File| {
            f.config(|c| {
                c["generator"]["img_size"] = json!(side);
                c["generator"]["input_stride"] = json!(4);
            });
            let n = (side / 4) * (side / 4);
            for part in ["student", "teacher"] {
                f.header[&format!("{part}.pos_emb")]["shape"] = json!([1, n + 1, 48]);
            }
        }
    };
    write(
        Kind::LimitedModel,
        "positions_1048576_limited",
        "memory limit of 100000000 bytes",
        &positions(4096),
    );
    write(Kind::Model, "positions_1048576", "billion multiply-adds a picture (work_limit)", &positions(4096));
    let finest = |f: &mut File| {
        f.config(|c| {
            c["generator"]["img_size"] = json!(4096);
            c["generator"]["input_stride"] = json!(1);
            c["tokenizer"]["num_resolutions"] = json!(1);
            c["tokenizer"]["channel_mult"] = json!([1]);
        });
        for part in ["student", "teacher"] {
            f.header[&format!("{part}.pos_emb")]["shape"] = json!([1, 4096 * 4096 + 1, 48]);
        }
    };
    write(Kind::Model, "positions_16777216", "billion multiply-adds a picture (work_limit)", &finest);
}

fn checkpoints(cases: &mut Cases) {
    use Kind::Checkpoint;
    let good = || tensor(6, 0, &[6], &[1]);
    let pkl = |content: &[u8]| zip(&[entry("x/data.pkl", content)]);
    cases.add(Checkpoint, "torch", "", &torch(&[("t", good())]));
    let mut zlib = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    zlib.write_all(&vec![0; 64 << 20]).unwrap();
    let bomb = Entry { method: 8, ..entry("x/data/0", &zlib.finish().unwrap()) };
    cases.add(
        Checkpoint,
        "zip_deflated_bomb",
        "compressed",
        &zip(&[entry("x/data.pkl", &pickle(&[("t", good())])), bomb]),
    );
    let lie = Entry { size_lie: 1 << 30, ..entry("x/data/0", &[1; 24]) };
    cases.add(
        Checkpoint,
        "zip_size_lies",
        "error",
        &zip(&[entry("x/data.pkl", &pickle(&[("t", good())])), lie]),
    );
    let many: Vec<Entry> = (0..60_000).map(|_| entry("x/data/0", b"")).collect();
    cases.add(Checkpoint, "zip_60000_entries", "error", &zip(&many));
    cases.add(Checkpoint, "zip_without_entries", "error", &zip(&[]));
    cases.add(
        Checkpoint,
        "pickle_nested_deep",
        "error",
        &pkl(&[b"\x80\x02".as_slice(), &b"]".repeat(1 << 20), &b"a".repeat(1 << 20), b"."].concat()),
    );
    cases.add(
        Checkpoint,
        "pickle_of_tuples",
        "error",
        &pkl(&[b"\x80\x02)".as_slice(), &b"\x85".repeat(1 << 20), b"."].concat()),
    );
    let mut doubling = b"\x80\x02)q\x00".to_vec();
    (0..60).for_each(|_| doubling.extend(b"h\x00h\x00\x86q\x00"));
    doubling.push(b'.');
    cases.add(Checkpoint, "pickle_doubling", "error", &pkl(&doubling));
    cases.add(Checkpoint, "pickle_text_of_4_gib", "error", &pkl(b"\x80\x02X\xff\xff\xff\xffa."));
    cases.add(
        Checkpoint,
        "tensor_of_one_value",
        "bytes of tensors that need a copy",
        &torch(&[("t", tensor(6, 0, &[1 << 40], &[0]))]),
    );
    cases.add(
        Checkpoint,
        "tensor_of_2_126",
        "sizes and strides",
        &torch(&[("t", tensor(6, 0, &[i64::MAX, i64::MAX], &[0, 0]))]),
    );
    let strided = [text("t"), int(1), tuple(&[1, 2, 3])].concat();
    cases.add(
        Checkpoint,
        "pickle_of_numbers",
        "error",
        &pkl(&[b"\x80\x02", strided.as_slice(), b"."].concat()),
    );
    let index = json!({"weight_map": {"a": "../../etc/passwd"}}).to_string();
    cases.add(Checkpoint, "out.safetensors.index.json", "a file beside the index", index.as_bytes());
    let index = json!({"weight_map": {"a": "self.safetensors.index.json"}}).to_string();
    cases.add(Checkpoint, "self.safetensors.index.json", "error", index.as_bytes());
    let shards: serde_json::Map<String, Value> =
        (0..200_000).map(|i| (format!("t{i}"), json!(format!("s{i}.safetensors")))).collect();
    cases.add(
        Checkpoint,
        "many.safetensors.index.json",
        "not found",
        json!({"weight_map": shards}).to_string().as_bytes(),
    );
}

fn rewards(cases: &mut Cases, file: &File) {
    use Kind::Reward;
    cases.add(Reward, "reward", "", &file.bytes());
    let vocabulary = |f: &mut File, bytes: Vec<u8>| {
        let name = "reward.vocabulary";
        let shape = bytes.len();
        f.header.as_object_mut().unwrap().remove(name);
        let at = f.data.len();
        // The old bytes stay, under another name: tensors leave no holes.
        f.data.extend(bytes);
        f.header[name] = json!({"dtype": "U8", "shape": [shape], "data_offsets": [at, at + shape]});
    };
    let old = file.header["reward.vocabulary"].clone();
    for (name, bytes) in [
        ("vocabulary_of_lines", b"a b\n".repeat(4 << 20)),
        ("vocabulary_of_one_line", b"a".repeat(16 << 20)),
        ("vocabulary_of_zeros", vec![0; 1 << 20]),
        ("vocabulary_empty", Vec::new()),
    ] {
        cases.changed(Reward, name, "vocabulary", file, |f| {
            vocabulary(f, bytes);
            f.header["reward.rest"] = old.clone();
        });
    }
    cases.changed(Reward, "reward_nested_deep", "softdimo.config", file, |f| {
        drop(f.metadata().insert("softdimo.config".into(), "{\"a\":".repeat(1 << 18).into()))
    });
    cases.changed(Reward, "reward_numbers_huge", "error", file, |f| f.config(huge));
    cases.changed(Reward, "reward_numbers_zero", "error", file, |f| f.config(zero));
}

fn huge(value: &mut Value) {
    each_number(value, &|n| *n = json!(1 << 20));
}

fn zero(value: &mut Value) {
    each_number(value, &|n| *n = json!(0));
}

fn each_number(value: &mut Value, change: &dyn Fn(&mut Value)) {
    match value {
        Value::Object(map) => map.values_mut().for_each(|v| each_number(v, change)),
        Value::Array(list) => list.iter_mut().for_each(|v| each_number(v, change)),
        Value::Number(n) if n.is_u64() => change(value),
        _ => {}
    }
}

fn golden(cases: &mut Cases) {
    use Kind::Golden;
    let file = File::read(&data("emoji-32.golden.safetensors"));
    cases.changed(Golden, "golden_tokens_out_of_range", "error", &file, |f| {
        f.tensor("b0/in/tokens").fill(0x7f)
    });
    // The runtime counts negative ids from the end: the comparison fails, not the run.
    cases.changed(Golden, "golden_tokens_negative", "", &file, |f| f.tensor("b0/in/tokens").fill(0xff));
    cases.changed(Golden, "golden_labels_out_of_range", "error", &file, |f| {
        f.tensor("b0/in/labels").fill(0x7f)
    });
    cases.changed(Golden, "golden_nan", "", &file, |f| {
        let names: Vec<String> =
            f.header.as_object().unwrap().keys().filter(|n| n.contains("/in/noise")).cloned().collect();
        names.iter().for_each(|name| f.tensor(name).fill(0xff));
    });
    let empty = r#"{"b0/in/tokens":{"dtype":"I64","shape":[0,64,2],"data_offsets":[0,0]}}"#;
    cases.add(Golden, "golden_of_no_pictures", "error", &safetensors(empty, 0));
    let other = r#"{"b0/in/tokens":{"dtype":"F32","shape":[1,64,2],"data_offsets":[0,512]}}"#;
    cases.add(Golden, "golden_of_floats", "error", &safetensors(other, 512));
    let wide = r#"{"b0/in/tokens":{"dtype":"I64","shape":[1,1,1,1,1,1,1,64,2],"data_offsets":[0,1024]}}"#;
    cases.add(Golden, "golden_of_nine_axes", "error", &safetensors(wide, 1024));
}

fn png(cases: &mut Cases) {
    let chunk = |name: &[u8; 4], content: &[u8]| {
        let mut sum = flate2::Crc::new();
        sum.update(name);
        sum.update(content);
        [&(content.len() as u32).to_be_bytes()[..], name, content, &sum.sum().to_be_bytes()].concat()
    };
    let deflated = |bytes: &[u8]| {
        let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        zlib.write_all(bytes).unwrap();
        zlib.finish().unwrap()
    };
    let ihdr = |side: u32, color: u8| {
        chunk(b"IHDR", &[&side.to_be_bytes()[..], &side.to_be_bytes(), &[8, color, 0, 0, 0]].concat())
    };
    let pixels = chunk(b"IDAT", &deflated(&[0; 6]));
    let mut add = |name, words, chunks: &[Vec<u8>]| {
        let end = chunk(b"IEND", b"");
        cases.add(Kind::Png, name, words, &[b"\x89PNG\r\n\x1a\n", chunks.concat().as_slice(), &end].concat());
    };
    add("png", "", &[ihdr(2, 0), pixels.clone()]);
    add("png_palette_of_4_bytes", "PLTE", &[ihdr(2, 3), chunk(b"PLTE", b"abcd"), pixels.clone()]);
    add("png_of_2_62_pixels", "PNG size", &[ihdr(0x7fff_ffff, 6), pixels.clone()]);
    add("png_of_holes", "error", &[ihdr(8192, 6), pixels.clone()]);
    let bomb = deflated(&vec![b'x'; 64 << 20]);
    add(
        "png_text_bomb",
        "error",
        &[ihdr(2, 0), chunk(b"zTXt", &[b"k\0\0", bomb.as_slice()].concat()), pixels.clone()],
    );
    add(
        "png_utf8_bomb",
        "error",
        &[ihdr(2, 0), chunk(b"iTXt", &[b"k\0\x01\0\0\0", bomb.as_slice()].concat()), pixels.clone()],
    );
    add(
        "png_profile_bomb",
        "",
        &[ihdr(2, 0), chunk(b"iCCP", &[b"k\0\0", bomb.as_slice()].concat()), pixels.clone()],
    );
    add("png_pixels_bomb", "filter method", &[ihdr(2, 0), chunk(b"IDAT", &bomb)]);
    let texts: Vec<Vec<u8>> = std::iter::repeat_n(chunk(b"tEXt", b"k\0v"), 100_000).collect();
    add("png_100000_chunks", "at most 65536 chunks", &[vec![ihdr(2, 0)], texts].concat());
}

fn vocabularies(cases: &mut Cases) {
    let (clip, bert) = (Kind::Clip, Kind::Bert);
    cases.add(
        clip,
        "clip_line_of_16_mib",
        "line 2",
        &[b"#version\n".as_slice(), &b"ab".repeat(8 << 20)].concat(),
    );
    cases.add(
        clip,
        "clip_a_million_merges",
        "line",
        &[b"#version\n".as_slice(), &b"a a\n".repeat(1_000_000)].concat(),
    );
    cases.add(bert, "bert_a_million_lines", "line 2", &b"a\n".repeat(1_000_000));
    cases.add(bert, "bert_of_empty_lines", "line 1", &b"\n".repeat(1_000_000));
    cases.add(bert, "bert_not_text", "line 1", &[0xff; 1000]);
}
