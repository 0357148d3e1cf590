//! How a plugin starts, and how the host's calls reach it.

use crate::abi::{self, Errno};
use crate::admission::{self, Memory, Mutate, Path, Validate};
use crate::plan::{self, Cni, Datastore, Deployer};
use crate::{Error, Result};

/// A plugin: what it knows from its start on, its configuration and field paths mostly.
///
/// The host runs several instances of a plugin and throws them away as it likes, so what is to be
/// remembered from one request to the next belongs into [`state`](crate::state).
pub trait Plugin: Sized {
    /// Makes the plugin, once in each instance and before any hook. An error keeps it from
    /// starting.
    fn start(start: &Start) -> Result<Self>;
}

/// What only the start of a plugin can do.
pub struct Start {
    _private: (),
}

impl Start {
    /// Makes a field path known to the host: `spec.containers[*].image`,
    /// `metadata.labels['a.b/c']`. It must be among the read or write paths of the manifest, or
    /// below one of them.
    pub fn path(&self, text: &str) -> Result<Path> {
        match abi::path_register(text.as_bytes()) {
            id if id >= 0 => Ok(Path::new(id, text)),
            errno => Err(path_error(Errno(errno), text)),
        }
    }
}

fn path_error(errno: Errno, path: &str) -> Error {
    const HINT: &str = "; list it under read_paths or write_paths of the manifest";
    match errno {
        // The host says what is wrong with the path.
        Errno::EINVAL => errno.into(),
        Errno::EACCES => Error::with_errno(
            errno,
            ["field path ", path, ": ", errno.text(), HINT].concat(),
        ),
        _ => Error::host(errno, "field path", path),
    }
}

/// A plugin that has started, with the memory of its hooks.
pub struct Instance<T> {
    plugin: T,
    memory: Memory,
}

impl<T: Plugin> Instance<T> {
    /// Is cleat_init; the error is its result.
    pub fn start() -> std::result::Result<Instance<T>, i32> {
        match T::start(&Start { _private: () }) {
            Ok(plugin) => Ok(Instance {
                plugin,
                memory: Memory::new(),
            }),
            Err(e) => Err(e.tell()),
        }
    }
}

impl<T: Mutate> Instance<T> {
    /// Is cleat_admission_mutate.
    pub fn mutate(&mut self, handle: i32, rules: u64) -> i32 {
        let plugin = &self.plugin;
        admission::decide(&mut self.memory, handle, rules, |r| plugin.mutate(r))
    }
}

impl<T: Validate> Instance<T> {
    /// Is cleat_admission_validate.
    pub fn validate(&mut self, handle: i32, rules: u64) -> i32 {
        let plugin = &self.plugin;
        admission::decide(&mut self.memory, handle, rules, |r| plugin.validate(r))
    }
}

impl<T: Deployer> Instance<T> {
    /// Is cleat_deployer_render.
    pub fn deployer(&mut self) -> i32 {
        plan::decide(|request| self.plugin.render(request))
    }
}

impl<T: Cni> Instance<T> {
    /// Is cleat_cni_plan.
    pub fn cni(&mut self) -> i32 {
        plan::decide(|request| self.plugin.plan(request))
    }
}

impl<T: Datastore> Instance<T> {
    /// Is cleat_datastore_plan.
    pub fn datastore(&mut self) -> i32 {
        plan::decide(|request| self.plugin.plan(request))
    }
}

/// Where a guest keeps its one plugin between the calls of the host.
#[cfg(target_arch = "wasm32")]
pub struct Slot<T>(std::cell::UnsafeCell<Option<Instance<T>>>);

// An instance of a guest has one thread.
#[cfg(target_arch = "wasm32")]
unsafe impl<T> Sync for Slot<T> {}

#[cfg(target_arch = "wasm32")]
impl<T: Plugin> Slot<T> {
    /// A slot without a plugin.
    pub const fn new() -> Slot<T> {
        Slot(std::cell::UnsafeCell::new(None))
    }

    /// Is cleat_init.
    pub fn start(&self) -> i32 {
        std::panic::set_hook(Box::new(|why| {
            crate::log(crate::Level::Error, &why.to_string())
        }));
        match Instance::start() {
            Ok(instance) => {
                // The host does not call a guest while it waits for the guest, so nobody else
                // is in here.
                unsafe { *self.0.get() = Some(instance) };
                0
            }
            Err(errno) => errno,
        }
    }

    /// Calls a hook.
    pub fn call(&self, hook: impl FnOnce(&mut Instance<T>) -> i32) -> i32 {
        // As in start.
        match unsafe { &mut *self.0.get() } {
            Some(instance) => hook(instance),
            None => Errno::ENOTSUP.0,
        }
    }
}

/// Makes a type the plugin of this guest and defines its exports. After the type stand its hooks:
/// `mutate` and `validate` for the traits of [`admission`](crate::admission), `deployer`, `cni` or
/// `datastore` for those of [`plan`](crate::plan).
///
/// ```ignore
/// cleat::plugin!(Policy: mutate, validate);
/// ```
#[macro_export]
macro_rules! plugin {
    ($plugin:ty: $($hook:ident),+ $(,)?) => {
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            static SLOT: $crate::plugin::Slot<$plugin> = $crate::plugin::Slot::new();
            $crate::__export!(cleat_abi_1, || ());
            $crate::__export!(cleat_init, || SLOT.start());
            $($crate::__hook!($hook);)+
        };

        // A native build has no exports, but the same demands on the type.
        #[cfg(not(target_arch = "wasm32"))]
        const _: () = {
            let _ = $crate::plugin::Instance::<$plugin>::start;
            $(let _ = $crate::plugin::Instance::<$plugin>::$hook;)+
        };
    };
}

/// Defines the export of a hook, with SLOT in scope.
#[doc(hidden)]
#[macro_export]
macro_rules! __hook {
    (mutate) => {
        $crate::__export!(cleat_admission_mutate, |handle, rules| {
            SLOT.call(|i| i.mutate(handle, rules))
        });
    };
    (validate) => {
        $crate::__export!(cleat_admission_validate, |handle, rules| {
            SLOT.call(|i| i.validate(handle, rules))
        });
    };
    (deployer) => {
        $crate::__export!(cleat_deployer_render, || SLOT.call(|i| i.deployer()));
    };
    (cni) => {
        $crate::__export!(cleat_cni_plan, || SLOT.call(|i| i.cni()));
    };
    (datastore) => {
        $crate::__export!(cleat_datastore_plan, || SLOT.call(|i| i.datastore()));
    };
}
