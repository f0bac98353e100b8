//! A timer as fine as the kernel has it: that of `epoll` is one of milliseconds.

use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::Failure;

pub struct Timer(OwnedFd);

impl Timer {
    /// One whose end is an event of that name.
    pub fn new(token: Token, registry: &Registry) -> Result<Self, Failure> {
        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        registry.register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Ends so much later. It need not be read: to be set makes it forget that it had ended.
    pub fn set(&self, after: Duration) -> Result<(), Failure> {
        // Zero would be never.
        let after = after.max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let end = Timespec { tv_sec: after.as_secs().try_into()?, tv_nsec: after.subsec_nanos().into() };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &Itimerspec { it_interval: never, it_value: end })?;
        Ok(())
    }
}
