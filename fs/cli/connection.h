/*
 * connection.h - the kernel's side of a mount (fusectl), where its daemon cannot end.
 *
 * A daemon that is killed while it notifies the kernel may have to wait there for a lock that the kernel
 * holds for a question to this very daemon. Then neither ends, nor does anybody who uses the mount,
 * until somebody aborts the connection.
 */
#ifndef KVFS_CONNECTION_H
#define KVFS_CONNECTION_H

/* Aborts the connection of the kvfs that is mounted there (the uppermost) if its daemon has been killed and
 * cannot end; then every question to it fails. Asks the mount nothing. Nothing happens where this is
 * neither root nor who mounted it, and where the kernel does not say whose a descriptor is. */
void connection_end_dying(const char *resolved);

#endif
