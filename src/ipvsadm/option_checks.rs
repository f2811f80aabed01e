//! Which options go together: with a command, with a type of tunnel, with a scheduler.

use super::argument_error::{ArgumentError, illegal};
use super::options::{OptionRules, Rule, Topic, Topics};
use crate::ipvs::{SchedulerFlag, TunnelKind};

/// The options of a tunnel beside its type.
pub(super) const TUNNEL_OPTIONS: Topics =
    Topics::of(&[Topic::TunPort, Topic::TunNocsum, Topic::TunCsum, Topic::TunRemcsum]);

/// Which tunnel options go with which type; kernel: linux/ip_vs.h, `IP_VS_CONN_F_TUNNEL_TYPE_*`.
fn tunnel_rules(kind: TunnelKind) -> OptionRules {
    use Topic as T;
    match kind {
        TunnelKind::Ipip => const { OptionRules::new(&[], &[], &[]) },
        TunnelKind::Gue => {
            const { OptionRules::new(&[T::TunPort], &[T::TunNocsum, T::TunCsum, T::TunRemcsum], &[]) }
        }
        TunnelKind::Gre => const { OptionRules::new(&[], &[T::TunNocsum, T::TunCsum], &[]) },
    }
}

/// Whether these of [`TUNNEL_OPTIONS`] go with a type of tunnel.
pub(super) fn check_tunnel(options: Topics, kind: TunnelKind) -> Result<(), ArgumentError> {
    check(options, tunnel_rules(kind), || format!("'{kind}' tunnel type"))
}

/// The flags that a list such as `sh-fallback,sh-port` sets; of any scheduler, if none is given.
pub(super) fn scheduler_flags(list: &str, scheduler: Option<&str>) -> Result<u32, ArgumentError> {
    let mut flags = 0;
    for word in list.split(',').filter(|word| !word.is_empty()) {
        let Some(flag) = SchedulerFlag::named(word) else {
            return illegal(format!("invalid scheduler flag `{word}'"));
        };
        if scheduler.is_some_and(|scheduler| !flag.fits(scheduler)) {
            return illegal(format!("incompatible scheduler flag `{word}'"));
        }
        flags |= flag.bit;
    }
    Ok(flags)
}

/// Reports the first topic, in their order, that breaks its rule; `whose` says who makes the
/// rules.
pub(super) fn check(
    given: Topics,
    rules: OptionRules,
    whose: impl Fn() -> String,
) -> Result<(), ArgumentError> {
    if rules.accept(given) {
        return Ok(());
    }
    let mut exclusive: Option<Topic> = None;
    for topic in Topic::ALL {
        let (name, whose) = (topic.name(), whose());
        match (rules.rule(topic), given.contains(topic)) {
            (Rule::Required, false) => {
                return illegal(format!("You need to supply the '{name}' option for the {whose}"));
            }
            (Rule::Illegal, true) => {
                return illegal(format!("Illegal '{name}' option with the {whose}"));
            }
            (Rule::Exclusive, true) => {
                if let Some(earlier) = exclusive.replace(topic) {
                    let earlier = earlier.name();
                    return illegal(format!(
                        "The option '{name}' conflicts with the '{earlier}' option in the {whose}"
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
