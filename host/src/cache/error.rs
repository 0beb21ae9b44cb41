//! What can be wrong with the Redis of a cache, and what to do about it.

/// Why keys cannot be deleted. Nothing of it holds a password.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The address is none.
    #[error(
        "cache.url is no address of a Redis: write redis://[[USER]:PASSWORD@]HOST[:PORT][/DATABASE], or rediss://… for \
         TLS; what is special in a password is %-encoded"
    )]
    Url,
    /// Nobody is there.
    #[error(
        "cannot reach the Redis of the cache at {address} ({why}): see that it runs, and that cache.url is right"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        why: String,
    },
    /// It is there and says nothing.
    #[error("the Redis of the cache at {address} does not answer in time")]
    Silent {
        /// Where.
        address: String,
    },
    /// It wants to know more.
    #[error(
        "the Redis of the cache at {address} wants a password: put it into the URL, `redis://:PASSWORD@HOST`"
    )]
    NeedsPassword {
        /// Where.
        address: String,
    },
    /// It does not know us.
    #[error("the Redis of the cache at {address} refuses the user or the password of cache.url")]
    Password {
        /// Where.
        address: String,
    },
    /// It is something else.
    #[error(
        "what answers at {address} is not a Redis ({why}): see that cache.url has its port, and `rediss://` if it speaks TLS"
    )]
    Foreign {
        /// Where.
        address: String,
        /// What is odd.
        why: String,
    },
    /// It only follows another.
    #[error("the Redis at {address} is a replica, which takes no deletions: name its primary in cache.url")]
    Replica {
        /// Where.
        address: String,
    },
    /// It is one of many.
    #[error(
        "the Redis at {address} is a part of a Redis Cluster, which the cache does not speak to: name one that stands alone"
    )]
    Cluster {
        /// Where.
        address: String,
    },
    /// The user may not.
    #[error(
        "the Redis of the cache at {address} does not let this user: it needs the commands SET, UNLINK, ZRANGEBYLEX and \
         ZREM, and the keys `twohop:*` and those of the cache (ACL SETUSER); it says: {said}"
    )]
    Forbidden {
        /// Where.
        address: String,
        /// In its words.
        said: String,
    },
    /// It does not do it for now.
    #[error("the Redis of the cache at {address} refuses: {said}")]
    Refused {
        /// Where.
        address: String,
        /// In its words.
        said: String,
    },
}

impl CacheError {
    /// Whether it may pass without anybody's doing. While the program runs it tries again after every error: what
    /// somebody has to mend may be mended without a restart.
    #[must_use]
    pub fn heals(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Silent { .. } | Self::Refused { .. })
    }

    /// Its name in the metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Url => "url",
            Self::Unreachable { .. } => "unreachable",
            Self::Silent { .. } => "silent",
            Self::NeedsPassword { .. } | Self::Password { .. } => "password",
            Self::Foreign { .. } => "foreign",
            Self::Replica { .. } => "replica",
            Self::Cluster { .. } => "cluster",
            Self::Forbidden { .. } => "forbidden",
            Self::Refused { .. } => "refused",
        }
    }
}
