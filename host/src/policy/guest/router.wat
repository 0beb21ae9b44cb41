;; A router by hand, on the canonical ABI, for tests. Its answer: for each change one route to the channel that the
;; first cell of its row names, with the row as payload, kept. The first letter of that cell tells it to misbehave.
;; The placeholders are filled in by fixtures.rs, the last with the other stages.
(module
  (import "twohop:policy/log@1.0.0" "write" (func $log (param i32 i32 i32)))
  (memory (export "memory") 100)
  (global $heap (mut i32) (i32.const 0x10000))
  (global $ill (mut i32) (i32.const 0))

  ;; The answer's lists have fixed places, below what the host writes: 0x800 outcome, 0x1000 changes, 0x2000 kinds,
  ;; 0x2100 options, 0x3000 spans, 0x6000 numbers. 0x8000: what configure answers.
  (data (i32.const 0x8000) "{DATA}")
  ;; What is answered to a cell that begins with A, whichever stage is asked.
  (data (i32.const 0x200000) "{ANSWER}")
  (table $wide 1 funcref)

  (func $start {START})
  (start $start)

  (func (export "cabi_realloc") (param $old i32) (param $size i32) (param $align i32) (param $new i32) (result i32)
    (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $heap) (i32.const 7)) (i32.const -8)))
    (global.set $heap (i32.add (local.get $at) (local.get $new)))
    (if (i32.gt_u (global.get $heap) (i32.mul (memory.size) (i32.const 65536)))
      (then (drop (memory.grow (i32.const 100)))))
    (local.get $at))

  (func (export "twohop:policy/plugin@1.0.0#configure") (param $settings i32) (param $count i32) (result i32)
    (global.set $heap (i32.const 0x10000))
    {CONFIGURE}
    (i32.const 0x8000))

  (func $deep (param i32) (result i32)
    (i32.add (call $deep (i32.add (local.get 0) (i32.const 1))) (i32.const 1)))

  (func $hurt (param $letter i32) (param $at i32)
    (local $nth i32)
    (if (i32.eq (local.get $letter) (i32.const 84 (; T ;))) (then unreachable))
    (if (i32.eq (local.get $letter) (i32.const 76 (; L ;))) (then (loop $ever (br $ever))))
    (if (i32.eq (local.get $letter) (i32.const 77 (; M ;)))
      (then (loop $more (drop (memory.grow (i32.const 16))) (br $more))))
    (if (i32.eq (local.get $letter) (i32.const 68 (; D ;))) (then (drop (call $deep (i32.const 0)))))
    (if (i32.eq (local.get $letter) (i32.const 80 (; P ;)))
      (then (call $log (i32.const 3) (i32.const 0x7000) (i32.const 26)) unreachable))
    ;; Log lines without end, one of 17 MiB, one that leaves the memory.
    (if (i32.eq (local.get $letter) (i32.const 71 (; G ;)))
      (then (loop $ever (call $log (i32.const 1) (i32.const 0x7000) (i32.const 26)) (br $ever))))
    (if (i32.eq (local.get $letter) (i32.const 87 (; W ;)))
      (then (drop (memory.grow (i32.const 272))) (call $log (i32.const 1) (i32.const 0) (i32.const 0x1100000))))
    (if (i32.eq (local.get $letter) (i32.const 78 (; N ;)))
      (then (call $log (i32.const 1) (i32.const 0x7fffffff) (i32.const 26))))
    ;; A table of a million elements.
    (if (i32.eq (local.get $letter) (i32.const 69 (; E ;)))
      (then (drop (table.grow $wide (ref.null func) (i32.const 1000000)))))
    (if (i32.eq (local.get $letter) (i32.const 70 (; F ;)))
      (then (loop $flood
        (call $log (i32.const 1) (i32.const 0x7000) (i32.const 26))
        (local.set $nth (i32.add (local.get $nth) (i32.const 1)))
        (br_if $flood (i32.lt_u (local.get $nth) (i32.const 10000))))))
    ;; 17 MiB of answer, all of it there.
    (if (i32.eq (local.get $letter) (i32.const 72 (; H ;)))
      (then (drop (memory.grow (i32.const 272))) (i32.store (i32.const 0x83c) (i32.const 0x1100000))))
    ;; An arena that leaves the memory.
    (if (i32.eq (local.get $letter) (i32.const 79 (; O ;)))
      (then (i32.store (i32.const 0x838) (i32.const 0x7fffffff))))
    ;; More kinds than changes.
    (if (i32.eq (local.get $letter) (i32.const 75 (; K ;))) (then (i32.store (i32.const 0x80c) (i32.const 0x100))))
    ;; An unknown kind.
    (if (i32.eq (local.get $letter) (i32.const 85 (; U ;)))
      (then (i32.store8 (i32.add (i32.const 0x2000) (local.get $at)) (i32.const 99))))
    ;; A rejection.
    (if (i32.eq (local.get $letter) (i32.const 82 (; R ;)))
      (then (i32.store8 (i32.add (i32.const 0x2000) (local.get $at)) (i32.const 8))))
    ;; The next call will trap.
    (if (i32.eq (local.get $letter) (i32.const 81 (; Q ;))) (then (global.set $ill (i32.const 1)))))

  (func (export "twohop:policy/router@1.0.0#direct")
    (param $subscriptions i32) (param $subscriptions-count i32) (param $operations i32) (param $count i32)
    (param $committed-at i32) (param $committed-at-count i32) (param $rows i32) (param $rows-count i32)
    (param $old-rows i32) (param $old-rows-count i32) (param $kinds i32) (param $kinds-count i32)
    (param $values i32) (param $values-count i32) (param $arena i32) (param $arena-size i32)
    (result i32)
    (local $at i32) (local $row i32) (local $value i64) (local $letter i32)
    (global.set $heap (i32.const 0x10000))
    (if (global.get $ill) (then unreachable))
    (memory.fill (i32.const 0x800) (i32.const 0) (i32.const 0x6800))
    (i32.store (i32.const 0x800) (i32.const 0x1000)) (i32.store (i32.const 0x804) (local.get $count))
    (i32.store (i32.const 0x808) (i32.const 0x2000)) (i32.store (i32.const 0x80c) (local.get $count))
    (i32.store (i32.const 0x810) (i32.const 0x2100)) (i32.store (i32.const 0x814) (local.get $count))
    (i32.store (i32.const 0x818) (i32.const 0x3000))
    (i32.store (i32.const 0x81c) (i32.mul (local.get $count) (i32.const 4)))
    (i32.store (i32.const 0x820) (i32.const 0x6000)) (i32.store (i32.const 0x824) (local.get $count))
    (i32.store (i32.const 0x838) (local.get $arena)) (i32.store (i32.const 0x83c) (local.get $arena-size))
    (memory.init $message (i32.const 0x7000) (i32.const 0) (i32.const 26))
    (loop $each
      (i32.store (i32.add (i32.const 0x1000) (i32.mul (local.get $at) (i32.const 4))) (local.get $at))
      (local.set $row (i32.load (i32.add (local.get $rows) (i32.mul (local.get $at) (i32.const 4)))))
      (local.set $value (i64.load (i32.add (local.get $values) (i32.mul (local.get $row) (i32.const 8)))))
      (i64.store (i32.add (i32.const 0x3000) (i32.mul (local.get $at) (i32.const 32))) (local.get $value))
      (call $hurt
        (local.tee $letter (i32.load8_u (i32.add (local.get $arena) (i32.wrap_i64 (local.get $value)))))
        (local.get $at))
      (if (i32.eq (local.get $letter) (i32.const 65 (; A ;))) (then (return (i32.const 0x200000))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br_if $each (i32.lt_u (local.get $at) (local.get $count))))
    (i32.const 0x800))
  (data $message "a policy was hurt\n by this")
  {STAGES}
)
