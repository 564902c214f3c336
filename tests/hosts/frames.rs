//! Times of frames with a job under way and without, which programs of hosts print: `frames idle: worst 17.5 ms`.

/// Print the worst frames of the runs, and check that a job makes no gross difference: the machine is shared, so what is
/// compared is the run of each kind that was disturbed least.
pub fn check(host: &str, said: &str) {
    let of = |kind: &str| -> Vec<f64> {
        let start = format!("frames {kind}: worst ");
        let lines = said.lines().filter_map(|line| line.strip_prefix(&start)?.strip_suffix(" ms"));
        let mut times: Vec<f64> = lines.map(|line| line.parse().unwrap()).collect();
        times.sort_by(f64::total_cmp);
        times
    };
    let (idle, busy) = (of("idle"), of("busy"));
    assert!(idle.len() == busy.len() && idle.len() >= 4, "{host}: {said}");
    let median = |times: &[f64]| times[(times.len() - 1) / 2];
    for (kind, times) in [("without a job", &idle), ("with jobs", &busy)] {
        let (last, all) = (times[times.len() - 1], times.len());
        println!(
            "# {host}: worst frame {kind}, median of {all} runs {:.1} ms, at most {last:.1} ms",
            median(times)
        );
    }
    println!("# {host}: difference of the medians {:.1} ms", median(&busy) - median(&idle));
    assert!(busy[0] < idle[0] + 50.0, "{host}: idle {idle:?}, busy {busy:?}");
}
