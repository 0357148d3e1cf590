// Puts the manifest into the custom section cleat.plugin. The build gives its path.
#ifdef __wasm__
__asm__(".section .custom_section.cleat.plugin,\"\",@\n"
        ".incbin \"" CLEAT_MANIFEST_FILE "\"\n");
#endif

typedef int cleat_manifest_is_data; // a C file without a declaration is not allowed
