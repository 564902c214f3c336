use softdimo::{Engine, Options, convert, verify};
use std::path::Path;
#[test]
fn maskbit() {
    let d = Path::new("/work/shared/fixtures/maskbit");
    let out = std::env::temp_dir().join("p.softdimo.safetensors");
    let s = convert::Source {
        generator: Some(d.join("maskbit_generator.safetensors")),
        tokenizer: d.join("maskbit_tokenizer.safetensors"),
        ..Default::default()
    };
    println!("{:?}", convert::maskbit(&s, &out, |_, _| ()).unwrap());
    for memory in [softdimo::MemoryMode::Lean, softdimo::MemoryMode::Fast] {
        let e = Engine::open(&out, Options { memory, ..Default::default() }).unwrap();
        let v = verify::verify(&e, d.join("maskbit.golden.safetensors"), None).unwrap();
        for r in &v.rows {
            println!("{:45} {:.2e} {:.2e} {}", r.name, r.max_abs, r.relative, r.passed);
        }
        println!("{:?}", v.not_checked);
        println!("{:?}", e.take_log());
        let t = std::time::Instant::now();
        println!("{:?}", e.generate(&softdimo::Request::class(3)).unwrap().report);
        println!("{:?}", t.elapsed());
    }
}
