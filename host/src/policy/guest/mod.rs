//! A plugin by hand that misbehaves on demand, for tests: of this room, and of the suite, which takes this file by its
//! path.
//!
//! In: what `configure` answers, which stages there are, an answer that was prepared. Out: a component.
//!
//! Each stage is told what to do by the first letter of what it is handed; see the heads of the files beside this one.

use wit_component::{ComponentEncoder, StringEncoding};
use wit_parser::Resolve;

/// Where a prepared answer lies.
pub(crate) const ANSWER: u32 = 0x20_0000;

/// A subscription of a [`Guest`]: table, operations, columns.
pub(crate) type Asked = (String, Vec<u8>, Vec<String>);

/// A plugin by hand, see `guest/`. It can be all stages; its world says which it is.
pub(crate) struct Guest {
    /// What `configure` answers.
    pub(crate) configured: Result<Vec<Asked>, String>,
    /// WebAssembly text that runs in `configure`.
    pub(crate) configuring: &'static str,
    /// WebAssembly text that runs before anything is called.
    pub(crate) starting: &'static str,
    /// What a stage that is told `A` answers, as it lies in memory from [`ANSWER`] on: its outcome comes first.
    pub(crate) answer: Vec<u8>,
    /// The world that it says it has.
    pub(crate) world: String,
    /// Replaced everywhere, in the interface too: from, to.
    pub(crate) replaced: &'static [(&'static str, &'static str)],
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            configured: Ok(vec![("*".into(), vec![], vec!["name".into()])]),
            configuring: "",
            starting: "",
            answer: Vec::new(),
            world: world(&["plugin", "router"]),
            replaced: &[],
        }
    }
}

impl Guest {
    /// With this one subscription.
    pub(crate) fn subscribed(table: &str, operations: &[u8], columns: &[&str]) -> Self {
        let columns = columns.iter().map(|column| (*column).to_owned()).collect();
        Self { configured: Ok(vec![(table.into(), operations.into(), columns)]), ..Self::default() }
    }

    /// Of these stages, subscribed to every table, with these columns.
    pub(crate) fn of(stages: &[&str], columns: &[&str]) -> Self {
        Self { world: world(&[&["plugin"], stages].concat()), ..Self::subscribed("*", &[], columns) }
    }

    /// The core module.
    pub(crate) fn module(&self) -> Vec<u8> {
        let stages = [include_str!("filter.wat"), include_str!("fanout.wat"), include_str!("gate.wat")];
        let text = include_str!("router.wat")
            .replace("{DATA}", &escaped(&configured_image(&self.configured)))
            .replace("{CONFIGURE}", self.configuring)
            .replace("{START}", self.starting)
            .replace("{ANSWER}", &escaped(&self.answer))
            .replace("{STAGES}", &stages.concat());
        wat::parse_str(self.replace(text)).expect("the fixture is WebAssembly text")
    }

    /// The component.
    pub(crate) fn component(&self) -> Vec<u8> {
        let interface = self.replace(include_str!("../../../../wit/policy.wit").to_owned());
        let world = self.replace(format!("package test:guest; world guest {{ {} }}", self.world));
        encode(self.module(), &[&interface, &self.replace(CLOCKS.to_owned()), &world])
    }

    fn replace(&self, text: String) -> String {
        self.replaced.iter().fold(text, |text, (from, to)| text.replace(from, to))
    }
}

/// The world of a plugin that exports these interfaces.
pub(crate) fn world(exports: &[&str]) -> String {
    let exports = exports.iter().map(|interface| format!("export twohop:policy/{interface}@1.0.0; "));
    format!("import twohop:policy/log@1.0.0; {}", exports.collect::<String>())
}

const CLOCKS: &str = "package wasi:clocks@0.2.0; interface wall-clock { now: func() -> u64; }";

/// A component from a module and packages of interfaces, of which the last has its world.
pub(crate) fn encode(mut module: Vec<u8>, packages: &[&str]) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let mut last = None;
    for (number, package) in packages.iter().enumerate() {
        last = Some(resolve.push_str(format!("{number}.wit"), package).expect("the fixture is an interface"));
    }
    let world = resolve.select_world(last.as_slice(), None).expect("the last has one world");
    wit_component::embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the world can be embedded");
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).expect("the module has a world").validate(true);
    encoder.encode().expect("the module fits its world")
}

/// `result<list<subscription>, string>` as it lies in memory from 0x8000.
fn configured_image(configured: &Result<Vec<Asked>, String>) -> Vec<u8> {
    const BASE: usize = 0x8000;
    let mut image = vec![0; 12];
    let put = |image: &mut Vec<u8>, bytes: &[u8]| {
        image.resize(image.len().next_multiple_of(4), 0);
        let at = BASE + image.len();
        image.extend_from_slice(bytes);
        [at, bytes.len()].map(|number| u32::try_from(number).expect("small").to_le_bytes()).concat()
    };
    let (number, tail) = match configured {
        Err(refusal) => (1, put(&mut image, refusal.as_bytes())),
        Ok(asked) => {
            let mut records = Vec::new();
            for (table, operations, columns) in asked {
                records.extend(put(&mut image, b""));
                records.extend(put(&mut image, table.as_bytes()));
                records.extend(put(&mut image, operations));
                let names: Vec<u8> =
                    columns.iter().flat_map(|column| put(&mut image, column.as_bytes())).collect();
                let mut list = put(&mut image, &names);
                list[4..].copy_from_slice(&u32::try_from(columns.len()).expect("small").to_le_bytes());
                records.extend(list);
            }
            let mut list = put(&mut image, &records);
            list[4..].copy_from_slice(&u32::try_from(asked.len()).expect("small").to_le_bytes());
            (0, list)
        }
    };
    image[0] = number;
    image[4..12].copy_from_slice(&tail);
    assert!(image.len() < 0x8000, "what configure answers has its place");
    image
}

fn escaped(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("\\{byte:02x}")).collect()
}
