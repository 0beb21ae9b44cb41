//! Two hundred plugins at once in one pipeline, and what a change costs that none of them subscribed to: no call.

use std::sync::atomic::Ordering;

use super::*;
use crate::event::Row;
use crate::policy::tests::router_of;

const PLUGINS_COUNT: usize = 200;

impl Stand {
    /// Appends a change of another table, of which the first column holds this.
    fn append_to(&mut self, table: &str, text: &str) {
        let [one, two, three] = [text, "", ""].map(str::to_owned);
        let mut change = change(&[one, two, three, String::new()]);
        let columns = change.row().map(Row::columns).into_iter().flatten().map(|(column, _)| column.clone());
        let columns = columns.collect();
        change.table = Arc::new(Table { name: table.into(), columns, ..(*change.table).clone() });
        self.count += 1;
        let log = self.parts().log.clone();
        self.runtime.block_on(log.append(P, vec![encode(&change)])).unwrap();
    }

    /// For each plugin that ever did something: about how many changes it was asked, and how many calls failed.
    fn work(&self) -> Vec<(u64, u64)> {
        let plugins = self.parts().metrics.plugins();
        let read = plugins.iter().map(|(_, plugin)| {
            (plugin.changes.load(Ordering::Relaxed), plugin.faults.load(Ordering::Relaxed))
        });
        read.collect()
    }
}

#[test]
fn two_hundred_plugins_are_active_at_once_and_a_change_that_none_subscribed_to_enters_none() {
    let mut stand = Stand::new();
    stand.wasm.push(router_of("subscribed", "one"));
    let code = stand.wasm.len() - 1;
    loader_of(&stand.home.path().join("compiled"), &[&stand.wasm[code]]);
    let (component, wasm) = (stand.component(code), stand.wasm[code].clone().into());
    stand.runtime.block_on(stand.parts().registry.keep_component(component, wasm)).unwrap();
    for nth in 0..PLUGINS_COUNT {
        let activation = stand.activation(code, OnFault::SetAside);
        stand.put_as(Activation { plugin: format!("p{nth}").into(), ..activation });
    }
    assert_eq!(stand.pipeline().policy.plugins().len(), PLUGINS_COUNT);
    assert_eq!(stand.sets().last().unwrap().set.members().len(), PLUGINS_COUNT);

    // All are asked, all answer the same, which is one message. And all are ill from now on: the next call traps.
    stand.append_to("subscribed", "Q");
    stand.catch_up();
    assert_eq!(stand.messages(), ["Q"]);
    assert_eq!(stand.work(), [(1, 0); PLUGINS_COUNT]);

    // Nobody traps, so nobody was called.
    stand.append_plain(1_000);
    stand.catch_up();
    assert_eq!(stand.work(), [(1, 0); PLUGINS_COUNT]);

    // The next call does trap, and the new instance answers.
    stand.append_to("subscribed", "a");
    stand.catch_up();
    assert_eq!(stand.messages(), ["Q", "a"]);
    assert_eq!(stand.work(), [(2, 1); PLUGINS_COUNT]);
    let letters = stand.runtime.block_on(stand.parts().bus.list(None, None, 9, usize::MAX)).unwrap();
    assert_eq!(letters, []);

    // All of them again, as after a restart.
    stand.open();
    stand.append_to("subscribed", "b");
    stand.catch_up();
    assert_eq!(stand.messages(), ["Q", "a", "b"]);
    assert_eq!(stand.work(), [(1, 0); PLUGINS_COUNT]);
}
