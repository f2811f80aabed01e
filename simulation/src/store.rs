//! etcd's servers, and each cvipd's connection to them.
