import java.util.List;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;

import io.etcd.jetcd.Auth;
import io.etcd.jetcd.ByteSequence;
import io.etcd.jetcd.Client;
import io.etcd.jetcd.KV;
import io.etcd.jetcd.Watch;
import io.etcd.jetcd.auth.Permission;
import io.etcd.jetcd.options.WatchOption;
import io.etcd.jetcd.watch.WatchEvent;

/** Users, roles, and what each may do. */
final class Users {
  private static final String DENIED = "etcdserver: permission denied";

  static void auth(Client client) throws Exception {
    Auth auth = client.getAuthClient();
    ByteSequence root = Suite.bytes("root");
    ByteSequence ann = Suite.bytes("ann");
    ByteSequence own = Suite.bytes("own");
    Suite.got(auth.userAdd(root, Suite.bytes("of all")));
    Suite.got(auth.userAdd(ann, Suite.bytes("ann's")));
    Suite.refused(auth.userAdd(ann, Suite.bytes("x")), "etcdserver: user name already exists");
    Suite.got(auth.roleAdd(root));
    Suite.got(auth.roleAdd(own));
    Suite.got(auth.roleGrantPermission(own, Suite.bytes("own/"), Suite.bytes("own0"), Permission.Type.READWRITE));
    Suite.got(auth.userGrantRole(root, root));
    Suite.got(auth.userGrantRole(ann, own));
    Suite.got(auth.authEnable());

    Suite.refused(client.getKVClient().get(Suite.bytes("own/a")), "etcdserver: user name is empty");
    try (Client wrong = login("ann", "wrong")) {
      Suite.refused(wrong.getKVClient().get(Suite.bytes("own/a")), "UNAUTHENTICATED");
    }
    try (Client all = login("root", "of all"); Client hers = login("ann", "ann's")) {
      KV kv = hers.getKVClient();
      for (String order : new String[] {null, "kill"}) {
        // Tokens end with the server; the client gets itself others.
        if (order != null) {
          Suite.server(order);
        }
        Suite.served(() -> all.getKVClient().put(Suite.bytes("other"), Suite.bytes("1")));
        Suite.served(() -> kv.put(Suite.bytes("own/a"), Suite.bytes("1")));
        Suite.equal(Suite.got(kv.get(Suite.bytes("own/a"))).getCount(), 1L);
        Suite.refused(kv.get(Suite.bytes("other")), DENIED);
        Suite.refused(kv.put(Suite.bytes("other"), Suite.bytes("2")), DENIED);
        Suite.refused(hers.getAuthClient().userList(), DENIED);
        BlockingQueue<WatchEvent> events = new LinkedBlockingQueue<>();
        BlockingQueue<Object> created = new LinkedBlockingQueue<>();
        Watch.Watcher watcher = hers.getWatchClient().watch(Suite.bytes("own/"),
            WatchOption.builder().isPrefix(true).withCreateNotify(true).build(), response -> {
              created.add(response);
              events.addAll(response.getEvents());
            });
        Suite.next(created);
        Suite.got(all.getKVClient().put(Suite.bytes("own/b"), Suite.bytes("2")));
        Suite.equal(Suite.next(events).getKeyValue().getValue(), Suite.bytes("2"));
        watcher.close();
      }
      Auth admin = all.getAuthClient();
      Suite.equal(Suite.got(admin.userList()).getUsers(), List.of("ann", "root"));
      Suite.equal(Suite.got(admin.roleGet(own)).getPermissions().get(0).getPermType(), Permission.Type.READWRITE);
      Suite.got(admin.roleRevokePermission(own, Suite.bytes("own/"), Suite.bytes("own0")));
      Suite.refused(kv.put(Suite.bytes("own/a"), Suite.bytes("2")), DENIED);
      Suite.got(admin.userDelete(ann));
      Suite.got(admin.authDisable());
    }
    Suite.equal(Suite.got(client.getKVClient().get(Suite.bytes("other"))).getCount(), 1L);
  }

  private static Client login(String name, String password) {
    return Suite.connect().user(Suite.bytes(name)).password(Suite.bytes(password)).build();
  }

  private Users() {}
}
