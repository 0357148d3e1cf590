// Package hostile holds no code. Its tests run plugins that were written to do
// harm, as bytes no compiler would write, against package pluginhost as a server
// uses it, and show that the harm stays with the plugin: the request is answered,
// in time, the other plugins go on, and nothing is left behind.
package hostile
