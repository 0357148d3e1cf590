// Package servicelb is the unit that gives Services of type LoadBalancer addresses
// of nodes. It runs no pods: it writes addresses into the Service's status, and
// kube-proxy, on every node, takes traffic to these to the Service's endpoints.
//
// Who gets which node is a function of Services, Nodes and EndpointSlices alone
// (decide), worked out anew whenever one of them changes.
package servicelb
