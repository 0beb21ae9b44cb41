//! The policy: everybody may listen to public channels, and each user to one channel of their own.
//!
//! Whoever is known may also send messages to public channels. All else is refused, and so it is where this panics.

use twohop_plugin::*;

/// The policy as it was configured. It cannot change: the same request always has the same answer.
#[derive(Debug)]
struct Doors {
    public: String,
    own: String,
}

impl Plugin for Doors {
    /// Reads the settings, all of them text. An error is shown to whoever deploys the plugin, and a setting that is
    /// not asked for here is one.
    fn configure(settings: &Settings) -> Configured<Self> {
        let public = settings.get("public").unwrap_or("public:").to_owned();
        let own = settings.get("own").unwrap_or("user:").to_owned();
        if public.is_empty() {
            return Err("the setting `public` is empty, which would open every channel".to_owned());
        }
        // A gate is asked about connections: it subscribes to no changes.
        Ok((Self { public, own }, Vec::new()))
    }
}

impl Gate for Doors {
    /// Whether this connection may listen to this channel, or to all that begin so.
    fn admit(&self, connection: &Connection, request: &Request) -> Result<Grant, Refusal> {
        let mut grant = Grant {
            // Whoever comes back gets what was missed. Nothing else is granted unless it is said.
            history: true,
            ..Grant::default()
        };
        if request.channel.starts_with(&self.public) {
            grant.publish = connection.subject.is_some();
            return Ok(grant);
        }
        let Some(subject) = &connection.subject else {
            return Err(Refusal::Unauthenticated);
        };
        // As a prefix, `user:1` would be the channel of `user:12` too.
        if !request.prefix && request.channel.strip_prefix(&self.own) == Some(subject) {
            return Ok(grant);
        }
        Err(Refusal::Forbidden("this channel is not yours".to_owned()))
    }

    /// Whether a client's message is taken. Who may listen is not thereby allowed to send: this decides by itself.
    fn receive(
        &self,
        connection: &Connection,
        request: &Request,
        message: &[u8],
    ) -> Result<Reception, Refusal> {
        if connection.subject.is_none() {
            return Err(Refusal::Unauthenticated);
        }
        if !request.channel.starts_with(&self.public) {
            let why = "messages go to public channels".to_owned();
            return Err(Refusal::Forbidden(why));
        }
        if std::str::from_utf8(message).is_err() {
            return Err(Refusal::Invalid("a message is text".to_owned()));
        }
        Ok(Reception::Keep)
    }
}

// Makes the component's exports; in a native build it only checks that the policy is a gate.
export!(Doors: gate);

#[cfg(test)]
mod tests {
    use super::*;
    use twohop_plugin::testing::Policy;

    fn doors() -> Policy<Doors> {
        Policy::<Doors>::configure([]).expect("there are values for all settings")
    }

    #[test]
    fn everybody_may_listen_to_public_channels() {
        let public = Request::channel("public:news");
        let grant = doors().admit(&Connection::anonymous(), &public).unwrap();
        assert!(grant.history && !grant.publish);
    }

    #[test]
    fn each_user_has_one_channel() {
        let (one, own) = (Connection::of("1"), Request::channel("user:1"));
        assert!(doors().admit(&one, &own).is_ok());
        for channel in ["user:12", "user:", "orders"] {
            let refusal = doors().admit(&one, &Request::channel(channel)).unwrap_err();
            assert!(matches!(refusal, Refusal::Forbidden(_)), "{channel}");
        }
        let refusal = doors().admit(&Connection::anonymous(), &own).unwrap_err();
        assert_eq!(refusal, Refusal::Unauthenticated);
    }

    #[test]
    fn messages_of_known_users_are_taken_on_public_channels() {
        let (one, public) = (Connection::of("1"), Request::channel("public:news"));
        let taken = doors().receive(&one, &public, b"hello");
        assert_eq!(taken, Ok(Reception::Keep));
        let refused = doors().receive(&one, &Request::channel("user:1"), b"hello");
        assert!(matches!(refused, Err(Refusal::Forbidden(_))));
        let refused = doors().receive(&one, &public, &[0xff]);
        assert!(matches!(refused, Err(Refusal::Invalid(_))));
    }
}
