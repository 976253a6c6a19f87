# routed in an image of what it needs: Python, the C libraries under it, and certificates. There is no shell and no
# package manager in it.
#
#   docker build -t routed .

FROM debian:bookworm-slim AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates python3 python3-pip python3-venv

# First what changes seldom: the versions of constraints.txt.
WORKDIR /src
COPY constraints.txt pyproject.toml README.md LICENSE ./
# pip works from outside, so that it is not in the environment.
RUN python3 -m venv --without-pip /opt/routed \
    && python3 -m venv /tmp/build \
    && /tmp/build/bin/pip install --no-cache-dir -c constraints.txt setuptools
COPY routed routed
RUN /tmp/build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation -w /tmp/wheel . \
    && /tmp/build/bin/pip --python /opt/routed/bin/python install --no-cache-dir -c constraints.txt /tmp/wheel/*.whl \
    && /opt/routed/bin/routed --version

# Of each package that Python stands on its files, but for documentation and what Python is developed with; laid out as
# Debian has it, with /lib in /usr.
WORKDIR /image
RUN mkdir -p usr/bin usr/lib usr/lib64 usr/sbin etc/ssl/certs opt run/routed tmp var/run/calico \
    && ln -s usr/bin usr/lib usr/lib64 usr/sbin . \
    && dpkg -L libbz2-1.0 libc6 libcrypt1 libexpat1 libffi8 libgcc-s1 liblzma5 libpython3.11-minimal \
        libpython3.11-stdlib libsqlite3-0 libssl3 libuuid1 python3-minimal python3.11-minimal zlib1g >/tmp/listed \
    && grep -vE '^/usr/share/(applications|binfmts|bug|doc|lintian|man|menu|pixmaps)/|/gconv/' /tmp/listed \
        | grep -vE '/python3[^/]*/(distutils|ensurepip|idlelib|lib2to3|pydoc_data|test|tkinter|turtledemo)(/|$)' \
        | while read -r path; do if [ ! -d "$path" ]; then echo "$path"; fi; done >/tmp/files \
    && tar -c --files-from=/tmp/files 2>/dev/null | tar -x --keep-directory-symlink \
    && python3 -m compileall -q -s /image -p / usr/lib/python3.11 \
    && cp -a /etc/ssl/certs/ca-certificates.crt etc/ssl/certs/ \
    && cp -a /opt/routed opt/ \
    && printf 'root:x:0:0::/:/none\nrouted:x:10001:10001::/:/none\n' >etc/passwd \
    && printf 'root:x:0:\nrouted:x:10001:\n' >etc/group \
    && chown 10001:10001 run/routed \
    && chroot . /opt/routed/bin/python3 -c \
        'import ssl, routed.cli, routed.agent, routed.kernel.fib, routed.datastore.etcd, routed.datastore.kubernetes'

FROM scratch
COPY --from=build /image/ /
ENV PATH=/opt/routed/bin:/usr/bin PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 LANG=C.UTF-8
# A reflector and the commands that only read need no privileges. A node's speaker is run as root with NET_ADMIN alone
# (see docker-compose.yml), or without kernel routes.
USER 10001:10001
ENTRYPOINT ["routed"]
CMD ["--help"]
