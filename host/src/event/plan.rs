//! How a post reaches its audience, as a fan-out plugin answers it and a store of timelines keeps it.

const PULL: u8 = 0b01;
const NOTIFY: u8 = 0b10;

/// How a post reaches its audience.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Plan {
    /// How it gets into timelines.
    pub delivery: Delivery,
    /// Whether followers with a connection are told at once.
    pub notify: bool,
}

/// How a post gets into timelines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Written to those of active followers now.
    Push,
    /// Merged when one is read.
    Pull,
}

impl Plan {
    /// The host's own, where no plugin decides: it costs least, and a timeline reads the same either way.
    pub const HOSTS_OWN: Self = Self { delivery: Delivery::Pull, notify: true };

    /// As the interface numbers it.
    #[must_use]
    pub fn number(self) -> u8 {
        let delivery = if self.delivery == Delivery::Pull { PULL } else { 0 };
        delivery | if self.notify { NOTIFY } else { 0 }
    }

    /// The plan of that number, if it is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        let delivery = if number & PULL == 0 { Delivery::Push } else { Delivery::Pull };
        (number & !(PULL | NOTIFY) == 0).then_some(Self { delivery, notify: number & NOTIFY != 0 })
    }
}

impl std::fmt::Display for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.delivery {
            Delivery::Push => "push",
            Delivery::Pull => "pull",
        })?;
        f.write_str(if self.notify { ", notify" } else { ", do not notify" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_its_number() {
        for number in 0..4 {
            assert_eq!(Plan::from_number(number).map(Plan::number), Some(number));
        }
        assert_eq!(Plan::from_number(0b11), Some(Plan::HOSTS_OWN));
        assert_eq!(Plan::from_number(4), None);
        assert_eq!(Plan::from_number(255), None);
    }
}
