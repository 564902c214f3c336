use std::path::Path;

use super::memory::sum;
use super::*;
use crate::convert::{Source, generator};
use crate::graph::{Node, Op};
use crate::runtime::cost::{ARENA_LIMIT, Cost};
use crate::runtime::threads::MOST_POOLS;
use crate::runtime::{load, process};
use crate::tensor::{Dtype, copies};

/// Run `work` with sessions of the bundled model, on a thread of its own.
pub(crate) fn on_bundled_model(work: impl FnOnce(&mut Sessions) -> Result<()> + Send + 'static) {
    on_bundled_model_with(Options::default(), work);
}

fn on_bundled_model_with(options: Options, work: impl FnOnce(&mut Sessions) -> Result<()> + Send + 'static) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    on_model(&path, options, work);
}

pub(crate) fn on_model(
    path: &Path,
    options: Options,
    work: impl FnOnce(&mut Sessions) -> Result<()> + Send + 'static,
) {
    process::claim().unwrap();
    let path = path.to_path_buf();
    let threads = Arc::new(Threads::new(options.threads, 0));
    let pool = threads.clone();
    let worker = threads.spawn("softdimo-test", move || {
        let model = Arc::new(Model::open(&path, options.weights, Default::default()).unwrap());
        let runtime = load(None).unwrap();
        let mut sessions = Sessions::new(model, options, runtime, pool, Arc::default());
        work(&mut sessions).unwrap();
    });
    assert!(worker.unwrap().join());
}

/// Sessions without an arena compute the same, run after run.
#[test]
fn large_sessions_have_no_arena() {
    on_bundled_model(|sessions| {
        let g = Graph::new();
        let x = g.input("x", crate::tensor::Dtype::F32, [64, 64])?;
        g.output("y", g.softmax(g.matmul(x, g.tanh(x)?)?, 1)?);
        let values: Vec<f32> = (0..64 * 64).map(|i| (i % 37) as f32 / 37.0 - 0.5).collect();
        let x = Tensor::from_f32([64, 64], &values);
        let model = sessions.model.clone();
        let sources = Sources::of(model.checkpoint());
        let mut run = |planned: u64| {
            let cost = Cost { planned, ..sessions.cost(&g, &sources, Runs::Once, Sharing::Model) };
            assert_eq!(cost.has_arena(), planned < ARENA_LIMIT);
            let mut session = sessions.compiler.compile(
                ("test", None),
                &g,
                &sources,
                Rc::new(cost),
                Sharing::Model,
                &Cancel::default(),
            )?;
            let first = session.run(&[("x", &x)], &Cancel::default())?;
            assert_eq!(session.run(&[("x", &x)], &Cancel::default())?, first);
            Ok::<_, Error>(first)
        };
        assert_eq!(run(ARENA_LIMIT)?, run(0)?);
        Ok(())
    });
}

/// x ← x·a + s, s ← s + x, with the sum of x as a result for the host.
fn graph() -> Graph {
    let g = Graph::new();
    let [x, s] = ["x", "s"].map(|name| g.input(name, Dtype::F32, [2, 3]).unwrap());
    let a = g.input("a", Dtype::F32, [1]).unwrap();
    g.output("sum", g.reduce_sum(x, &[0, 1]).unwrap());
    g.output("next.x", g.add(g.mul(x, a).unwrap(), s).unwrap());
    g.output("next.s", g.add(s, x).unwrap());
    g
}

/// Bit for bit what runs through the host give, and a run that was cancelled can be run again.
#[test]
fn carried_values_equal_values_through_the_host() {
    on_bundled_model(|sessions| {
        let cancel = Cancel::default();
        let carried = ["x", "s"].map(|name| (format!("next.{name}"), name.to_string()));
        let mut plain = sessions.compile("plain", &graph(), &Cancel::default())?;
        let mut bound = sessions.compile("bound", &graph(), &Cancel::default())?.bind(&carried)?;
        let read = Graph::new();
        let s = read.input("s", Dtype::F32, [2, 3])?;
        read.output("s again", read.mul_scalar(s, 2.0)?);
        let mut read = sessions.compile("read", &read, &Cancel::default())?.bind(&[])?;

        let mut x = Tensor::from_f32([2, 3], &[0.1, -2.0, 3.3, 0.7, 1e-3, 5.0]);
        let mut s = Tensor::from_f32([2, 3], &[0.0; 6]);
        bound.feed([("x", &x), ("s", &s), ("unknown", &x)])?;
        read.feed([("s", &s)])?;
        for step in 0..5 {
            let a = Tensor::from_f32([1], &[0.3 + step as f32]);
            bound.feed([("a", &a)])?;
            let mut expected = plain.run(&[("x", &x), ("s", &s), ("a", &a)], &cancel)?;
            let ended = Cancel::default();
            ended.cancel();
            assert!(matches!(bound.run(&ended), Err(Error::Cancelled)));
            let first = bound.run(&cancel)?;
            assert_eq!(first, bound.run(&cancel)?, "a run does not change its inputs");
            assert_eq!(first, [expected.remove(0)]);
            (x, s) = (expected.remove(0).1, expected.remove(0).1);
            bound.advance()?;
            read.follow(&bound)?;
            let twice: Vec<f32> = s.to_f32().iter().map(|s| 2.0 * s).collect();
            assert_eq!(read.run(&cancel)?[0].1.to_f32(), twice);
        }
        let refused =
            sessions.compile("bad", &graph(), &Cancel::default())?.bind(&[("sum".into(), "y".into())]);
        assert_eq!(
            refused.unwrap_err().to_string(),
            "internal error (please report it): no f32 graph input 'y'"
        );
        Ok(())
    });
}

/// Results are written into their tensors, and read from there by the next session, without a copy; also those that
/// are inputs, constants or weights of their graph, and two of one value.
#[test]
fn sessions_read_and_write_tensors_where_they_lie() {
    on_bundled_model(|sessions| {
        let cancel = Cancel::default();
        let model = sessions.model.clone();
        let view = |name: &str| model.checkpoint().get(name);
        let mut names = model.checkpoint().names();
        let name =
            names.find(|name| view(name).is_some_and(|v| v.dtype == Dtype::F32)).expect("an f32 weight");
        let weight = view(name).expect("found before");
        let g = Graph::new();
        let [x, i] = [("x", Dtype::F32), ("i", Dtype::I64)].map(|(n, dtype)| g.input(n, dtype, [3]).unwrap());
        let y = g.add(x, x)?;
        let constant = g.constant(Tensor::from_f32([2], &[0.5, -7.0]))?;
        let stored = g.weight(name, weight.dtype, weight.shape.clone())?;
        let values =
            [("x again", x), ("i again", i), ("y", y), ("y again", y), ("c", constant), ("w", stored)];
        values.into_iter().for_each(|(name, value)| g.output(name, value));

        let x = Tensor::from_f32([3], &[1.0, f32::MAX, -0.0]);
        let i = Tensor::from_i64([3], &[(1 << 53) + 1, -5, i64::MAX]);
        let y = Tensor::from_f32([3], &[2.0, f32::INFINITY, -0.0]);
        let expected =
            [x.clone(), i.clone(), y.clone(), y, Tensor::from_f32([2], &[0.5, -7.0]), weight.to_tensor()];
        for runs in [Runs::Many, Runs::Once] {
            let mut session =
                sessions.build_over_model(("test", None), &g, &[], &[], runs, &Cancel::default())?;
            let (first, copied) = copies::of(|| session.run(&[("x", &x), ("i", &i)], &cancel));
            let first = first?;
            assert_eq!(copied, 0);
            assert!(first.iter().map(|(name, _)| name.as_str()).eq(values.iter().map(|(name, _)| *name)));
            assert!(first.iter().map(|(_, tensor)| tensor).eq(&expected), "{runs:?}");
            // What a run gave is not touched by the next one.
            let (y, i) = (&first[2].1, &first[1].1);
            let (second, copied) = copies::of(|| session.run(&[("x", y), ("i", i)], &cancel));
            assert_eq!((copied, &second?[0].1), (0, y));
            assert_eq!((y, i), (&expected[2], &expected[1]));
        }
        Ok(())
    });
}

/// Sessions used longest ago go for the next one, those in use never, and what cannot fit takes nothing with it.
#[test]
fn the_limit_drops_what_was_used_longest_ago() {
    let options = Options { memory_limit: 2 << 20, ..Options::default() };
    on_bundled_model_with(options, |sessions| {
        let cancel = Cancel::default();
        let kept = |s: &Sessions| [1, 2, 4].map(|batch| s.kept.contains(&key(Program::Embed, batch)));
        for batch in [1, 2] {
            sessions.prepare(Program::Embed, batch, &cancel)?;
        }
        let two = sum(
            sessions.ledger.living().iter().map(Rc::as_ref),
            Cost::reserved,
            sessions.compiler.packed(),
            sessions.own_file(),
        );
        let (one, x) = ("graph", Tensor::from_f32([2, 3], &[0.5; 6]));
        sessions.options.memory_limit = two.limited();
        sessions.prepare(Program::Embed, 1, &cancel)?;
        sessions.kept.get(&key(Program::Embed, 1));
        let used = sessions.compile(one, &graph(), &Cancel::default())?;
        assert_eq!(kept(sessions), [true, false, false], "the second was used before the first");
        for _ in 0..2 {
            match sessions.prepare(Program::Embed, 4, &cancel) {
                Err(Error::OutOfMemory { needed, limit, .. }) => assert!(needed > limit),
                other => panic!("{other:?}"),
            }
            assert_eq!(kept(sessions), [true, false, false]);
        }
        drop(used);
        sessions.prepare(Program::Embed, 2, &cancel)?;
        assert_eq!(kept(sessions), [true, true, false]);
        let a = Tensor::from_f32([1], &[2.0]);
        sessions.run_graph(one, &graph(), &[("x", &x), ("s", &x), ("a", &a)], &cancel)?;
        let dropped = sessions.log.take().into_iter().filter(|(_, text)| text.starts_with("dropped 'embed'"));
        assert_eq!(dropped.count(), 2);
        Ok(())
    });
}

/// What the planner of the runtime takes is foreseen, so that a first run keeps the memory limit.
#[test]
fn the_first_run_takes_what_was_foreseen() {
    on_bundled_model(|sessions| {
        let cancel = Cancel::default();
        for (program, batch) in Program::ALL.into_iter().flat_map(|p| [1, 8, 64].map(|batch| (p, batch))) {
            if !program.available(sessions.model.architecture(), &sessions.model.weights()) {
                continue;
            }
            let graph = program.graph(sessions.model.architecture(), &sessions.model.weights(), batch)?;
            let filled = |node: &Node| match &node.op {
                Op::Input { name, dtype: Dtype::F32, shape } => {
                    Some((name.clone(), Tensor::from_f32_vec(shape.clone(), vec![0.5; shape.len()])))
                }
                Op::Input { name, shape, .. } => {
                    Some((name.clone(), Tensor::from_i64(shape.to_vec(), &vec![1; shape.len()])))
                }
                _ => None,
            };
            let feeds: Vec<_> = graph.nodes().iter().filter_map(filled).collect();
            let mut session = sessions.compile(program.name(), &graph, &Cancel::default())?;
            let foreseen = session.cost.reserved();
            // A run that does not end says nothing.
            let ended = Cancel::default();
            ended.cancel();
            assert!(session.run_some(&feeds, &ended).is_err());
            assert_eq!(session.cost.reserved(), foreseen);
            session.run_some(&feeds, &cancel)?;
            assert_eq!(session.cost.reserved(), session.cost.held());
            let taken = session.cost.held();
            println!("{} of {batch}: {taken} bytes, {foreseen} foreseen", program.name());
            assert!(taken <= foreseen, "{} of {batch}: {taken} bytes, {foreseen} foreseen", program.name());
            // Results go to the host, not to the session's memory.
            let most = 3 * taken + (1 << 20);
            assert!(foreseen < most, "{} of {batch}: {taken} bytes, {foreseen} foreseen", program.name());
        }
        Ok(())
    });
}

/// The runtime keeps every packed copy until all are let go of: one counts until no session reads any.
#[test]
fn packed_copies_count_until_no_session_reads_any() {
    let options = Options { memory: MemoryMode::Fast, ..Options::default() };
    let folder = tempfile::tempdir().unwrap();
    let data = |file: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/maskbit").join(file);
    let source = Source {
        generator: Some(data("generator.safetensors")),
        teacher: Some(data("generator.safetensors")),
        tokenizer: data("tokenizer.safetensors"),
        ..Source::new("maskbit")
    };
    let path = folder.path().join("model.softdimo.safetensors");
    generator(&source, &path, |_, _| ()).unwrap();
    on_model(&path, options, |sessions| {
        let cancel = Cancel::default();
        let prepared = |sessions: &mut Sessions, program| {
            sessions.prepare(program, 1, &cancel)?;
            Ok::<_, Error>(sessions.memory())
        };
        let student = prepared(sessions, Program::Student)?;
        let both = prepared(sessions, Program::Teacher)?;
        sessions.drop_oldest(|_, _| true, String::new);
        let held = sessions.memory();
        assert_eq!((held.sessions, held.activations), (1, both.activations - student.activations));
        let packed: u64 = sessions.compiler.packed().values().sum();
        assert!(held.weights >= packed && packed > both.weights / 2, "{held:?}, {packed} packed");

        // Of what is packed nothing can go while the teacher stays: with room for one of them, it goes too.
        let needed =
            |cost: &Rc<Cost>| cost.reserved() + cost.own_weights() + cost.shared.values().sum::<u64>();
        let teacher = sessions.ledger.living().iter().map(needed).sum::<u64>();
        sessions.trim();
        assert_eq!(sessions.memory().limited(), 0);
        prepared(sessions, Program::Student)?;
        let student = sessions.ledger.living().iter().map(needed).sum::<u64>();
        sessions.options.memory_limit = teacher.max(student) + 1024;
        for program in [Program::Teacher, Program::Student, Program::Teacher] {
            let held = prepared(sessions, program)?;
            assert_eq!(held.sessions, 1);
            assert!(held.limited() <= sessions.options.memory_limit, "{held:?}");
        }
        Ok(())
    });
}

/// Between its preparation and the end of its first run a loop counts as what it will take, not as its first values.
#[test]
fn a_bound_session_counts_as_foreseen_until_it_has_run() {
    on_bundled_model(|sessions| {
        let g = Graph::new();
        let x = g.input("x", Dtype::F32, [512, 512])?;
        let y = g.softmax(g.matmul(x, g.tanh(x)?)?, 1)?;
        g.output("next", g.matmul(y, x)?);
        let key = Key { name: "loop", batch: 1, shape: String::new() };
        let carried = |_: &Graph| vec![("next".into(), "x".into())];
        let mut bound = sessions.take_loop(&key, || Ok(g.clone()), &[], carried, &Cancel::default())?;
        let cost = sessions.ledger.living().remove(0);
        let foreseen = cost.reserved();
        assert!(cost.values() > 0 && cost.held() < foreseen / 2, "two buffers of {foreseen} bytes");
        sessions.options.memory_limit = foreseen + 1024;
        assert!(matches!(sessions.compile("other", &g, &Cancel::default()), Err(Error::OutOfMemory { .. })));
        bound.feed([("x", &Tensor::from_f32_vec([512, 512], vec![0.5; 512 * 512]))])?;
        bound.run(&Cancel::default())?;
        assert_eq!(cost.reserved(), cost.held());
        assert!(cost.held() <= foreseen);
        Ok(())
    });
}

/// What is refused takes nothing from what is there, also where only so many sessions have threads.
#[test]
fn a_refused_session_drops_none() {
    let options = Options { memory_limit: 256 << 20, ..Options::default() };
    on_bundled_model_with(options, |sessions| {
        let cancel = Cancel::default();
        for batch in 1..=MOST_POOLS {
            sessions.prepare(Program::DecodeHard, batch, &cancel)?;
        }
        assert_eq!(sessions.memory().sessions, MOST_POOLS as u64);
        assert!(matches!(
            sessions.prepare(Program::DecodeHard, 256, &cancel),
            Err(Error::OutOfMemory { .. })
        ));
        assert_eq!(sessions.memory().sessions, MOST_POOLS as u64);
        sessions.prepare(Program::DecodeHard, MOST_POOLS + 1, &cancel)?;
        assert_eq!(sessions.memory().sessions, MOST_POOLS as u64, "it has the threads of the first");
        Ok(())
    });
}

/// A preparation that was left counts until it is over, and what needs its memory waits for it.
#[test]
fn a_preparation_that_was_left_counts_until_it_is_over() {
    on_bundled_model(|sessions| {
        let (deep, flat) = (Graph::new(), Graph::new());
        let mut y = deep.input("x", Dtype::F32, [4])?;
        for _ in 0..4_000 {
            let t = deep.tanh(y)?;
            y = deep.add(t, y)?;
        }
        deep.output("y", y);
        let x = flat.input("x", Dtype::F32, [4])?;
        flat.output("y", flat.tanh(x)?);

        let began = Instant::now();
        drop(sessions.compile("deep", &deep, &Cancel::default())?);
        let whole = began.elapsed();
        // Some of the time passes before the runtime begins: not every deadline falls into its part.
        let left = (1..10).find_map(|tenth| {
            let late = Cancel::default();
            late.prepare_until(Some(Instant::now() + whole * tenth / 10));
            let ended = sessions.compile("deep", &deep, &late);
            assert!(ended.is_ok() || matches!(ended, Err(Error::Timeout { .. })));
            drop(ended);
            Some(sessions.memory()).filter(|memory| memory.sessions == 1)
        });
        let left = left.expect("no preparation was left");
        sessions.options.memory_limit = left.limited();
        drop(sessions.compile("flat", &flat, &Cancel::default())?);
        assert_eq!(sessions.memory().sessions, 0);
        Ok(())
    });
}

/// Buffers of a job and sessions share the limit: what either would fit under alone is refused where both do not.
#[test]
fn buffers_of_the_job_count_with_the_sessions() {
    on_bundled_model(|sessions| {
        let cancel = Cancel::default();
        sessions.prepare(Program::Embed, 1, &cancel)?;
        let needed = sessions.ledger.living()[0].reserved();
        sessions.trim();
        let layout = sessions.model.architecture().layout();
        let batch = (needed / layout.host_bytes(1)) as usize + 1;
        sessions.options.memory_limit = layout.host_bytes(batch);
        let bytes = sessions.begin_job(&layout, batch)?;
        assert!(matches!(sessions.prepare(Program::Embed, 1, &cancel), Err(Error::OutOfMemory { .. })));
        sessions.end_job(bytes);
        sessions.prepare(Program::Embed, 1, &cancel)?;
        assert!(matches!(sessions.begin_job(&layout, 2 * batch), Err(Error::OutOfMemory { .. })));
        assert_eq!(sessions.host, 0);
        Ok(())
    });
}

/// The convolutions that were faster in f32 are so; a file that is not this machine's changes nothing, and says so.
#[test]
fn what_was_remembered_is_computed_in_f32() {
    use crate::calibrate::{calibrate, quantize_calibrated};
    use crate::convert::Storage;
    let dir = tempfile::tempdir().unwrap();
    let first = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/emoji-32.softdimo.safetensors");
    let path = dir.path().join("int8.softdimo.safetensors");
    let seen = calibrate(&first, &Options::default(), 1, |_, _| ()).unwrap();
    quantize_calibrated(&first, Storage::Int8, seen.ranges(), &path, |_, _| ()).unwrap();
    let all: BTreeSet<String> =
        seen.ranges().keys().filter(|name| name.starts_with("decoder.")).cloned().collect();
    let one: BTreeSet<String> = all.iter().take(1).cloned().collect();
    let none = BTreeSet::new();
    // How many convolutions of the decoder are in integers, and what the log says, with this file in the cache.
    let in_integers = |untuned: bool, remembered: Option<&BTreeSet<String>>, whose: &str| {
        let (cache, remembered, whose) = (dir.path().to_path_buf(), remembered.cloned(), whose.to_string());
        let (tell, told) = std::sync::mpsc::channel();
        on_model(&path, Options { untuned, ..Options::default() }, move |sessions| {
            let here = sessions.tuned_for().unwrap();
            let file = here.path(&cache);
            sessions.cache = Some(cache);
            let _ = std::fs::remove_file(&file);
            if let Some(remembered) = &remembered {
                TunedFor { processor: here.processor.clone() + &whose, ..here }.write(&file, remembered)?;
            }
            let model = sessions.model.clone();
            let graph = Program::DecodeHard.graph(model.architecture(), &model.weights(), 1)?;
            sessions.prepare(Program::DecodeHard, 1, &Cancel::default())?;
            let graph = sessions.compiler.for_running(&graph, &Sources::of(model.checkpoint()))?;
            let count = graph.nodes().iter().filter(|n| matches!(n.op, Op::QLinearConv { .. })).count();
            let log = sessions.log.take().into_iter().map(|(_, message)| message);
            tell.send((count, log.filter(|m| m.starts_with("int8: ")).collect::<String>())).unwrap();
            Ok(())
        });
        told.recv().unwrap()
    };
    let (usual, said) = in_integers(false, None, "");
    assert!(usual >= all.len() && said.contains("nothing was measured here"), "{usual} {said}");
    let says = |(count, said): (usize, String), expected: usize, words: &str| {
        assert!(count == expected && said.contains(words), "{count} {said}");
    };
    says(in_integers(false, Some(&none), ""), usual, "0 convolutions in f32");
    says(in_integers(false, Some(&all), ""), 0, &format!("{} convolutions in f32", all.len()));
    let (count, _) = in_integers(false, Some(&one), "");
    assert!(count < usual && count > 0);
    says(in_integers(false, Some(&all), "other"), usual, "another model or machine");
    says(in_integers(false, Some(&["x".to_string()].into()), ""), usual, "no convolution \"x\"");
    assert_eq!(in_integers(true, Some(&all), ""), (usual, String::new()));
}

/// Prepared at the same time, each on a thread of its own, sessions are those that would have been prepared one by one.
#[test]
fn what_is_begun_ahead_is_there_when_it_is_wanted() {
    let two = Options { threads: 2, ..Options::default() };
    let wanted = [(Program::Student, 1), (Program::DecodeHard, 1)];
    let under_way = move |sessions: &mut Sessions| {
        wanted.iter().filter(|&&(program, batch)| !sessions.compiler.may_begin(&key(program, batch))).count()
    };
    let tokens = Tensor::from_i64_vec([1, 64, 2], vec![5; 128]);
    let decode = move |sessions: &mut Sessions| {
        sessions.run(Program::DecodeHard, 1, &[("tokens", &tokens)], &Cancel::default())
    };
    on_bundled_model_with(two.clone(), move |sessions| {
        let never = Cancel::default();
        let one_by_one = decode(sessions)?;
        sessions.trim();
        sessions.prepare_ahead(wanted, &never);
        assert_eq!(under_way(sessions), 2);
        // Begun already: nothing more is.
        sessions.prepare_ahead(wanted, &never);
        assert_eq!(decode(sessions)?, one_by_one);
        sessions.prepare(Program::Student, 1, &never)?;
        assert!(wanted.iter().all(|&(program, batch)| sessions.kept.contains(&key(program, batch))));
        sessions.prepare_ahead(wanted, &never);
        assert_eq!(sessions.compiler.left(), 0);

        // Given up, they end, and are prepared anew.
        sessions.trim();
        sessions.prepare_ahead(wanted, &never);
        sessions.give_up_ahead();
        while sessions.compiler.left() > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(wanted.iter().all(|&(program, batch)| !sessions.kept.contains(&key(program, batch))));
        assert_eq!(decode(sessions)?, one_by_one);

        // Dropped with its engine, whatever is under way.
        sessions.trim();
        sessions.prepare_ahead(wanted, &never);
        Ok(())
    });
    // Where memory is counted, where there is one thread, for a job that is over: nothing.
    let limited = Options { memory_limit: 1 << 30, ..two.clone() };
    let cancelled = Cancel::default();
    cancelled.cancel();
    let cases = [
        (limited, Cancel::default()),
        (Options { threads: 1, ..two.clone() }, Cancel::default()),
        (two, cancelled),
    ];
    for (options, cancel) in cases {
        on_bundled_model_with(options, move |sessions| {
            sessions.prepare_ahead(wanted, &cancel);
            assert_eq!(under_way(sessions), 0);
            Ok(())
        });
    }
}
