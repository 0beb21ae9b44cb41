//! Stands in for what the engine generates from `wit/policy.wit`: the same names and fields.

#![allow(missing_docs, reason = "the interface has the words")]

pub(super) mod twohop {
    pub(in crate::policy) mod policy {
        pub(in crate::policy) mod types {
            #[derive(Debug, Clone)]
            pub(in crate::policy) struct Subscription {
                pub(in crate::policy) source: String,
                pub(in crate::policy) table: String,
                pub(in crate::policy) operations: Vec<u8>,
                pub(in crate::policy) columns: Vec<String>,
            }

            #[derive(Debug, Clone)]
            pub(in crate::policy) struct Changes<'a> {
                pub(in crate::policy) subscriptions: &'a [u32],
                pub(in crate::policy) operations: &'a [u8],
                pub(in crate::policy) committed_at: &'a [i64],
                pub(in crate::policy) rows: &'a [u32],
                pub(in crate::policy) old_rows: &'a [u32],
                pub(in crate::policy) kinds: &'a [u8],
                pub(in crate::policy) values: &'a [u64],
                pub(in crate::policy) arena: &'a [u8],
            }
        }
    }
}

pub(super) mod exports {
    pub(in crate::policy) mod twohop {
        pub(in crate::policy) mod policy {
            pub(in crate::policy) mod filter {
                #[derive(Debug, Clone)]
                pub(in crate::policy) struct Outcome {
                    pub(in crate::policy) verdicts: Vec<u8>,
                    pub(in crate::policy) reasons: Vec<u64>,
                    pub(in crate::policy) masked_changes: Vec<u32>,
                    pub(in crate::policy) masked_columns: Vec<u64>,
                    pub(in crate::policy) arena: Vec<u8>,
                }
            }

            pub(in crate::policy) mod router {
                #[derive(Debug, Clone)]
                pub(in crate::policy) struct Outcome {
                    pub(in crate::policy) changes: Vec<u32>,
                    pub(in crate::policy) kinds: Vec<u8>,
                    pub(in crate::policy) options: Vec<u8>,
                    pub(in crate::policy) spans: Vec<u64>,
                    pub(in crate::policy) numbers: Vec<i64>,
                    pub(in crate::policy) attributed_routes: Vec<u32>,
                    pub(in crate::policy) attributes: Vec<u64>,
                    pub(in crate::policy) arena: Vec<u8>,
                }
            }
        }
    }
}
