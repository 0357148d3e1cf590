//! What stands in for the host in a native build.

use std::cell::RefCell;
use std::rc::Rc;

use crate::abi::Host;

thread_local! {
    static CURRENT: RefCell<Option<Rc<RefCell<dyn Host>>>> = RefCell::new(None);
}

/// Runs a function with `host` as the host of this thread.
pub fn with_host<R>(host: Rc<RefCell<dyn Host>>, run: impl FnOnce() -> R) -> R {
    struct Restore(Option<Rc<RefCell<dyn Host>>>);
    impl Drop for Restore {
        fn drop(&mut self) {
            let before = self.0.take();
            CURRENT.with(|c| *c.borrow_mut() = before);
        }
    }
    let _restore = Restore(CURRENT.with(|c| c.borrow_mut().replace(host)));
    run()
}

pub(crate) fn with<R>(call: impl FnOnce(&mut dyn Host) -> R) -> R {
    let host = CURRENT.with(|c| c.borrow().clone());
    let host = host.expect(
        "a host function was called outside a hook; call the plugin through cleat::testing",
    );
    let mut host = host.borrow_mut();
    call(&mut *host)
}
