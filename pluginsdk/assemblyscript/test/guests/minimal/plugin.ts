// A guest that registers no handler, for the tests of the SDK.

export { cleat_abi_1, cleat_init } from "cleat/plugin";
export { cleat_admission_validate } from "cleat/admission";
