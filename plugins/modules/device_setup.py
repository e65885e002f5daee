#!/usr/bin/python
# Copyright (c) 2026, The edgeml.fleet authors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: device_setup
short_description: Bring a device to a described state by one command
version_added: 0.2.0
description:
  - Packages, users, directories, files, commands and systemd units are compared with what is described, and what
    differs is changed, all by one command over the connection. To start a module takes a small board seconds, and a
    role of such tasks starts many.
  - The order is that of the options of O(parts), with what O(bundle) installs before the files.
  - The roles of this collection use it. It runs C(/usr/bin/python3) of the device as root.
  - A file is replaced whole, and is on the disk when it is in place. Restarts that files ask for are noted before the
    files are replaced, so that the next run makes up for a restart that an interruption prevented.
options:
  requires:
    description:
      - What the device must be. Any other is refused before anything is changed.
    type: dict
    default: {}
    suboptions:
      service_mgr:
        description: The init system, one of these.
        type: list
        elements: str
      pkg_mgr:
        description: The package manager, one of these.
        type: list
        elements: str
      architecture:
        description: The architecture of the kernel, one of these.
        type: list
        elements: str
  parts:
    description: What the device should have, in parts that tags can choose.
    type: list
    elements: dict
    default: []
    suboptions:
      tags:
        description:
          - The part is left out where C(--tags) leaves out a task with these tags. The task itself needs the tags of
            all parts; C(--skip-tags) with one of them leaves it out as a whole.
        type: list
        elements: str
        default: []
      service_mgr:
        description:
          - The part is left out on a device whose services are managed by none of these, such as V(systemd) or
            V(supervisord). Empty means that it is for every device.
        type: list
        elements: str
        default: []
      packages:
        description: Debian packages. They are installed when missing, without what they recommend, and never upgraded.
        type: list
        elements: str
        default: []
      users:
        description: System users, without a password. Their home directories are not made.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the user.
            type: str
            required: true
          group:
            description: Name of the primary group, which is made when it is missing.
            type: str
            required: true
          home:
            description: Home directory.
            type: str
            required: true
          shell:
            description: Login shell.
            type: str
            required: true
      directories:
        description: Directories.
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path. A link to a directory is left as it is.
            type: str
            required: true
          owner: &owner
            description: Name of the owner.
            type: str
            default: root
          group: &group
            description: Name of the group.
            type: str
            default: root
          mode: &mode
            description: Permissions as four octal digits.
            type: str
            required: true
      files:
        description: Files. Each has either O(parts[].files[].content) or O(parts[].files[].template).
        type: list
        elements: dict
        default: []
        suboptions:
          path:
            description: Absolute path. Directories that are missing are made.
            type: str
            required: true
          present:
            description: Whether there is such a file; V(false) removes it.
            type: bool
            default: true
          keep:
            description: Whether a file that is there already keeps its content.
            type: bool
            default: false
          content:
            description: What the file holds.
            type: str
          template:
            description: Name of a template of the role, which is rendered on the controller.
            type: str
          owner: *owner
          group: *group
          mode: *mode
          secret:
            description: Whether the content is kept out of the result.
            type: bool
            default: false
          validate:
            description:
              - A command that gets the new content on its standard input, changes nothing, and ends with 0 where the
                content can be used. What it refuses fails the task before any file is changed.
            type: list
            elements: str
            default: []
          restarts:
            description:
              - Unit that is restarted when the file changed or was removed, if it runs and is among O(parts[].units).
            type: str
            default: ""
          reloads:
            description:
              - Unit that is reloaded when the file changed or was removed, if it runs and is among O(parts[].units).
            type: str
            default: ""
      commands:
        description: Commands that are run unless a check of their effect succeeds.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: What the command does, for the result.
            type: str
            required: true
          check:
            description: A command that changes nothing, and ends with 0 where there is nothing to do.
            type: list
            elements: str
            required: true
          run:
            description: The command itself.
            type: list
            elements: str
            required: true
          undo:
            description:
              - A command that takes back what O(parts[].commands[].run) did.
              - It is run where something was installed from archives, and a unit then does not start.
            type: list
            elements: str
            default: []
          daemon_reload:
            description: Whether systemd has to read its units again afterwards.
            type: bool
            default: false
      units:
        description: Units of systemd.
        type: list
        elements: dict
        default: []
        suboptions:
          name:
            description: Name of the unit, with its suffix.
            type: str
            required: true
          enabled:
            description: Whether the unit is enabled; V(false) leaves it as it is.
            type: bool
            default: false
          running:
            description:
              - Whether the unit is started; V(false) leaves it as it is.
              - One that runs from a unit file that was replaced since is restarted.
            type: bool
            default: false
          outside_containers:
            description: Whether O(parts[].units[].running) counts only where systemd itself is not in a container.
            type: bool
            default: false
          handover_lock:
            description:
              - With this file, the unit's reload has a new process take over from the one that serves when it is ready,
                and is used instead of a restart. The file's lock, as of C(flock), is held meanwhile.
              - When the reload ends with the exit code 75, the unit is restarted. When it fails otherwise, so does the
                task, and the process before serves on.
              - Empty means that the unit is restarted.
            type: str
            default: ""
      outdated:
        description: What is removed at the end, when the units run from what replaced it.
        type: list
        elements: dict
        default: []
        suboptions:
          directory:
            description: Absolute path of the directory that holds it.
            type: str
            required: true
          pattern:
            description: Regular expression of the names.
            type: str
            required: true
          keep:
            description: Names that stay.
            type: list
            elements: str
            required: true
          lock:
            description:
              - File whose lock, as of C(flock), is held meanwhile. What it cannot be had for within a minute is left to
                the next run.
            type: str
            required: true
  bundle:
    description:
      - What is installed from archives that the controller made, in directories that are named by their content.
    type: dict
    suboptions:
      directory:
        description: Directory on the device that holds them.
        type: str
        required: true
      names:
        description: Names of what should be there. One that is there is complete.
        type: list
        elements: str
        required: true
      archives:
        description:
          - Archives on the controller, each a C(.tar.gz). They are unpacked into one directory, and a program
            C(install) at its top puts the names in place.
          - Without any, RV(missing) tells what is not there, and nothing is changed then.
        type: list
        elements: path
        default: []
      arguments:
        description: Arguments of the program C(install).
        type: list
        elements: str
        default: []
      way_back:
        description:
          - Directory on the device that keeps the way back to the installation before until O(bundle.trial) has ended
            and removes it. Its program C(go-back) puts the files back with C(files), and removes the new installation
            with C(names). When the trial has ended well, C(outdated) removes what O(parts[].outdated) names instead.
          - As long as it is there, nothing outdated is removed.
        type: str
        default: ""
      trial:
        description:
          - A command that begins the trial of what was installed, when the units run from it. Not run where nothing
            was replaced.
        type: list
        elements: str
        default: []
  retry_seconds:
    description:
      - How long the call is tried again, with pauses of 2 to 30 seconds, while the connection fails though somebody
        answers there, because C(become) or the greeting takes too long on a busy device, or the link breaks.
      - A device that does not answer at all is unreachable at once.
    type: int
    default: 300
attributes:
  check_mode:
    support: full
    description: Compares as ever and changes nothing.
  diff_mode:
    support: full
    description: Shows the files' contents, but not those of secrets, and of all else what it was and what it is.
  platform:
    support: full
    platforms: debian
    description: Needs systemd, C(apt-get), Python 3.8 or later as C(/usr/bin/python3), and root.
author: The edgeml.fleet authors (@edgeml)
"""

EXAMPLES = r"""
- name: Limit the journal
  edgeml.fleet.device_setup:
    requires:
      service_mgr: [systemd]
    parts:
      - files:
          - path: /etc/systemd/journald.conf.d/50-size.conf
            content: |
              [Journal]
              SystemMaxUse=64M
            mode: "0644"
            restarts: systemd-journald.service
        units:
          - name: systemd-journald.service
  become: true
"""

RETURN = r"""
changes:
  description:
    - What was changed, or in check mode would be, in this order. When the task failed, the last one may not be done.
  returned: always
  type: list
  elements: dict
  contains:
    subject:
      description: Path, unit, package, user or command.
      type: str
      returned: always
    before:
      description: What it was.
      type: str
      returned: always
    after:
      description: What it is.
      type: str
      returned: always
  sample:
    - subject: /etc/edgeml
      before: absent
      after: directory root:edgeml 0750
missing:
  description: Names of O(bundle) that are not there, for want of archives. Nothing was changed then.
  returned: always
  type: list
  elements: str
  sample: [app-0123456789abcdef]
ansible_facts:
  description:
    - C(architecture), C(userspace_bits), C(python_version), C(pkg_mgr) and C(service_mgr), by the names of
      Ansible's own facts.
  returned: success
  type: dict
"""
