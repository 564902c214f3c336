//! `softdimo bench`: what it says of the bundled model, and that its parts fit together.

use std::process::Command;

use serde_json::Value;

use super::{MODEL, fails, root, softdimo, stdout, works};

fn json(arguments: &[&str]) -> Value {
    let all = [&["bench", "generate", "--model", MODEL, "--json"], arguments].concat();
    serde_json::from_str(&works(&all)).unwrap()
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("expected a number, found {value}"))
}

#[test]
fn every_combination_is_measured_in_every_round() {
    let lists = ["--batch", "1,2", "--memory", "lean,fast", "--threads", "1,2"];
    let document = json(&[&lists[..], &["--runs", "2", "--rounds", "2"]].concat());
    assert!(number(&document["machine"]["cores"]) >= 1.0);
    assert!(document["runtime"].as_str().unwrap().starts_with("1."));
    let combinations = document["combinations"].as_array().unwrap();
    let mut seen: Vec<String> = combinations
        .iter()
        .map(|c| format!("{} {} {}", c["memory"].as_str().unwrap(), c["threads"], c["batch"]))
        .collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 8, "{seen:?}");
    assert_eq!(number(&combinations[0]["ratio"]["median"]), 1.0, "the first is compared with itself");
    for c in combinations {
        let rounds = c["rounds"].as_array().unwrap();
        assert_eq!(rounds.len(), 2);
        let runs = rounds.iter().flat_map(|round| round["runs"].as_array().unwrap());
        let networks = runs.map(|run| {
            let parts: f64 = run["networks"].as_object().unwrap().values().map(number).sum();
            parts / number(&run["milliseconds"])
        });
        let networks: Vec<f64> = networks.collect();
        assert!(networks.iter().all(|&part| 0.0 < part && part < 1.0), "parts of a run: {networks:?}");
        // On a machine that does something else as well, some of them.
        assert!(networks.iter().any(|&part| part > 0.4), "parts of a run: {networks:?}");
        let run = &c["run"];
        let [min, median, max] = ["min", "median", "max"].map(|which| number(&run[which]));
        assert!(0.0 < min && min <= median && median <= max, "{run}");
        assert!(number(&c["open"]["median"]) > 0.0 && number(&c["first"]["median"]) > 0.0);
        let (rate, peak) = (number(&c["rate"]), number(&c["peak_rate"]));
        // Neither is another unit, however busy the machine is.
        assert!((0.1..1e4).contains(&rate) && (0.1..1e4).contains(&peak), "{rate} of {peak} GFLOP/s");
    }
    let of = |memory: &str, threads: u64, batch: u64| {
        let is = |c: &&Value| c["memory"] == memory && c["threads"] == threads && c["batch"] == batch;
        combinations.iter().find(is).unwrap()
    };
    for network in ["student", "decode (hard)"] {
        let gflop = |batch| number(&of("lean", 1, batch)["networks"][network]["gflop"]);
        assert!((gflop(2) / gflop(1) - 2.0).abs() < 0.05, "{network}: {} and {}", gflop(1), gflop(2));
    }
    if cfg!(target_os = "linux") {
        let after = |memory| number(&of(memory, 1, 1)["after"]["anon"]);
        assert!(after("fast") > after("lean") + 5000.0, "packed weights: {} KiB", after("fast"));
        assert!(number(&of("lean", 1, 1)["after"]["pss"]) > 0.0);
    }
}

#[test]
fn a_profile_says_which_layers_take_the_time() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "generate", "--model", MODEL, "--profile", "--runs", "2", "--threads", "1"];
    let profiled = |more: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_softdimo"));
        command.args(arguments).args(more).current_dir(support::root());
        for name in ["TMPDIR", "TMP", "TEMP"] {
            command.env(name, folder.path());
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    for memory in ["lean", "fast"] {
        let document: Value = serde_json::from_str(&profiled(&["--json", "--memory", memory])).unwrap();
        let profile = &document["combinations"][0]["rounds"][0]["profile"];
        let networks = &document["combinations"][0]["networks"];
        for (network, layers) in [("student", "student."), ("decode (hard)", "decoder.")] {
            let shares = profile[network].as_array().unwrap();
            let sum = |layer: &str| -> f64 {
                let of = shares.iter().filter(|s| s["layer"].as_str().unwrap().starts_with(layer));
                of.map(|share| number(&share["milliseconds"])).sum()
            };
            let (known, all) = (sum(layers), sum(""));
            assert!(known > 0.8 * all, "{memory}, {network}: {known} of {all} ms belong to layers");
            let run = number(&networks[network]["milliseconds"]["median"]);
            assert!((0.02..50.0).contains(&(all / run)), "{network}: {all} ms in kernels, {run} ms a run");
        }
        let student = profile["student"].as_array().unwrap();
        let in_last = |s: &&Value| s["layer"].as_str().unwrap() == "student.transformer.layers.5.1.net.2";
        assert!(student.iter().any(|s| in_last(&s)), "the last layer is there");
    }
    let text = profiled(&[]);
    for line in ["student, by operation: ", "student, by block: ", "decode (hard), by layer: "] {
        assert!(text.contains(line), "{text}");
    }
    assert!(text.contains("| student.transformer.layers.*.1.net.0 "), "{text}");
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0, "profiles are removed");
}

/// The figures that other programs read from the lines of one combination.
#[test]
fn one_combination_has_a_line_for_each_figure() {
    let text = works(&["bench", "generate", "--model", MODEL, "--runs", "1"]);
    let names = [
        "model",
        "runtime",
        "mode",
        "cpu",
        "open",
        "first run",
        "run",
        "  student",
        "  decode (hard)",
        "RssAnon",
        "RssFile",
        "PSS",
        "peak resident",
    ];
    for name in names {
        assert!(text.lines().any(|line| line.starts_with(&format!("{name} "))), "{name}: {text}");
    }
    let text =
        works(&["bench", "generate", "--model", MODEL, "--runs", "1", "--rounds", "1", "--batch", "1,2"]);
    assert_eq!(text.lines().filter(|line| line.starts_with("| emoji-32 ")).count(), 2, "{text}");
}

#[test]
fn what_cannot_be_measured_is_said_once() {
    let absent = fails(1, &["bench", "generate", "--model", "absent.safetensors", "--batch", "1,2"]);
    assert_eq!(absent, "softdimo: file 'absent.safetensors' not found\n");
    let none = fails(2, &["bench", "generate", "--runs", "0"]);
    assert!(none.contains("'0' for '--runs <RUNS>'"), "{none}");
    let batch = fails(2, &["bench", "generate", "--model", MODEL, "--batch", "1,0"]);
    assert!(batch.contains("'0' for '--batch <BATCH>'"), "{batch}");
    let batch = fails(1, &["bench", "generate", "--model", MODEL, "--batch", "1000000"]);
    assert!(batch.starts_with("softdimo: batch: expected 1 to 256, "), "{batch}");
    assert!(!softdimo(&["bench", "generate", "--memory", "much"]).status.success());
}

/// The parts of a start-up are those of the whole, and no file is left.
#[test]
fn a_start_up_is_told_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["bench", "start", "--model", MODEL, "--rounds", "2", "--threads", "1"];
    let start = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_softdimo"));
        command.args(arguments).args(more).current_dir(root()).env("TMPDIR", folder.path());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let document: Value = serde_json::from_str(&start(&["--json"])).unwrap();
    let rounds = document["rounds"].as_array().unwrap();
    assert_eq!(rounds.len(), 2);
    for round in rounds {
        let of = |part: &str| number(&round[part]);
        let parts: f64 = ["process", "runtime", "open", "prepare", "picture", "png"].map(of).iter().sum();
        // A part is a difference of two openings or pictures, of which either may be the slower one.
        assert!(of("total") > 0.0 && parts > 0.5 * of("total"), "{round}");
        assert!(of("picture") > 0.0 && of("optimization") > of("picture"), "{round}");
    }
    let text = start(&[]);
    assert!(text.contains("| until the PNG is there "), "{text}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Processes that have one model open have its pages in common. A copy of it, which no other test has open.
#[test]
fn processes_share_the_pages_of_a_model() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.safetensors");
    std::fs::copy(root().join(MODEL), &model).unwrap();
    let model =
        ["bench", "generate", "--json", "--runs", "1", "--beside", "1", "--model", model.to_str().unwrap()];
    let document: Value = serde_json::from_str(&works(&model)).unwrap();
    let kib = |figure: &str| number(&document["combinations"][0]["after"][figure]);
    assert!(kib("file") > 9000.0, "{document}");
    assert!(kib("pss") < kib("anon") + 0.75 * kib("file"), "{document}");
}
